"""This node's own Ray: started once per agent process, one named actor a slot. Not a client of somebody else's cluster.

Everything listens on loopback and wants a token that only this host's processes have. All of it ends when the process
that started it ends, however it ends: the kernel kills Ray's servers, their workers and children follow, and a warden
sees to the rest (see `strays`).
"""

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.execution.engine_actor import EngineActor
from quantfleet_worker.execution.outcome import Crashed, Outcome
from quantfleet_worker.execution.spec import RunSpec
from quantfleet_worker.execution.strays import MARK, HostDirectory, kill_marked, sweep_dead_hosts

_PARENT = Path("/tmp")  # noqa: S108 - Ray's sockets lie below it and a socket's path has at most 107 characters
_OBJECT_STORE_BYTES = 80 * 1024 * 1024  # Ray refuses less than 75 MiB; requests and results are small
_CONCURRENT_CALLS = 4  # a run, a cancellation, a progress query and one to spare
_RESTARTS_AWAITED = 100
_KILL_S = 10.0

_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    # Ray takes the address of the first network card unless told that clusters are off; then it keeps to loopback.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # a worker's child inherits it, and 15 is Ray's choice
    "RAY_enable_metrics_collection": "0",
    "RAY_event_stats": "0",
}


class RayHost:
    """Ray for the slots of one node. A slot is named `<device>/<n>`, e.g. `cpu:0/1`; it runs one task at a time.

    `run`, `cancel` and `progress` belong on an asyncio loop; `start` and `shutdown` block for seconds.
    """

    def __init__(self, slots: Sequence[str]) -> None:
        self._slots = tuple(slots)
        self._actors: dict[str, Any] = {}
        self._numbers = dict.fromkeys(self._slots, 0)
        self._directory: HostDirectory | None = None
        # The kernel ends Ray's servers with the *thread* that started them, so that thread lives as long as the host.
        self._thread = ThreadPoolExecutor(1, "ray-host")

    def start(self) -> None:
        """Start Ray and an actor for every slot. Raises QuantfleetError(WORKER_FAILED)."""
        self._thread.submit(self._start).result()

    def shutdown(self) -> None:
        """Kill what runs, stop Ray and remove its directory."""
        self._thread.submit(self._stop).result()
        self._thread.shutdown()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    async def run(self, slot: str, request: bytes, spec: RunSpec) -> Outcome:
        """Run one request in a child of the slot's actor.

        The death of the actor is an outcome too (`Crashed.infrastructure`); its successor is ready when this returns.
        Cancelling the awaiting task cancels the run.
        """
        from ray.exceptions import RayActorError

        self._numbers[slot] += 1
        marked = {**spec.environment, MARK: self._mark(slot)}
        reference = self._actors[slot].run.remote(self._numbers[slot], replace(spec, environment=marked), request)
        try:
            outcome: Outcome = await reference
        except RayActorError as error:
            await asyncio.to_thread(kill_marked, self._mark(slot))
            await self._restarted(slot)
            reason = str(error).strip().partition("\n")[0]
            return Crashed("the Ray actor died", tail=reason, infrastructure=True)
        except asyncio.CancelledError:
            self.cancel(slot)
            # The slot is free when the child is gone; until then a next run would find it busy.
            with contextlib.suppress(RayActorError, TimeoutError):
                async with asyncio.timeout(_KILL_S):
                    await reference
            raise
        return outcome

    def cancel(self, slot: str) -> None:
        """Kill the slot's current run, which then ends as `Cancelled`; nothing where none runs. Does not block."""
        self._actors[slot].cancel.remote(self._numbers[slot])

    async def progress(self, slot: str) -> tuple[float, str]:
        """The last progress of the slot's current or last run: a fraction and a message."""
        found: tuple[float, str] = await self._actors[slot].progress.remote()
        return found

    async def pids(self, slot: str) -> tuple[int, int | None]:
        """The process ids of the slot's actor and of its child, None while none runs."""
        found: tuple[int, int | None] = await self._actors[slot].pids.remote()
        return found

    def _mark(self, slot: str) -> str:
        assert self._directory is not None
        return f"{self._directory.path}:{slot}"

    async def _restarted(self, slot: str) -> None:
        from ray.exceptions import RayActorError

        for _ in range(_RESTARTS_AWAITED):
            try:
                await self._actors[slot].pids.remote()
            except RayActorError:
                await asyncio.sleep(0.1)
            else:
                return
        raise QuantfleetError(
            ErrorCode.WORKER_FAILED, f"the Ray actor of {slot} does not come back", "restart the worker; see its log"
        )

    def _start(self) -> None:
        os.environ.update(_ENVIRONMENT)
        # Ray reads the token once per process, so a second start in this process keeps the first one's.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        import ray
        from ray._private import ray_constants
        from ray._raylet import Config  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue] - compiled, without stubs
        from ray.exceptions import RayError

        # Where somebody has imported Ray before, it has read the environment as it was then.
        Config.initialize("")
        ray_constants.ENABLE_RAY_CLUSTER = False
        sweep_dead_hosts(_PARENT)
        self._directory = HostDirectory(_PARENT)
        devices = [slot.rpartition("/")[0] for slot in self._slots]
        try:
            with _servers_only():
                ray.init(
                    address="local",
                    num_cpus=len(self._slots),
                    resources={device: devices.count(device) for device in devices},
                    object_store_memory=_OBJECT_STORE_BYTES,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    namespace="quantfleet",
                    _temp_dir=str(self._directory.path),
                    _node_ip_address="127.0.0.1",
                )
            remote = ray.remote(EngineActor)
            for slot, device in zip(self._slots, devices, strict=True):
                self._actors[slot] = remote.options(
                    name=slot,
                    num_cpus=1,
                    resources={device: 1},
                    max_concurrency=_CONCURRENT_CALLS,
                    max_restarts=-1,
                ).remote()
            ray.get([actor.progress.remote() for actor in self._actors.values()])
        except (OSError, ValueError, RuntimeError, RayError) as error:
            self._stop()
            raise QuantfleetError(
                ErrorCode.WORKER_FAILED, f"Ray did not start: {error}", "check free memory and disk, and /dev/shm"
            ) from error

    def _stop(self) -> None:
        import ray

        self._actors.clear()
        ray.shutdown()
        if self._directory is not None:
            self._directory.remove()
            self._directory = None


@contextlib.contextmanager
def _servers_only() -> Iterator[None]:
    """Have `ray.init` start its two servers, and not the API server, the autoscaler and the log shipper beside them.

    It starts those three even without a dashboard and waits for the first: much of its time, 250 MB, and idle wake-ups
    that a benchmark would feel. No option turns them off. A Ray that names them otherwise starts them as it likes.
    """
    from ray._private.node import Node

    def nothing(*_: object, **__: object) -> None:
        return

    names = [name for name in ("start_api_server", "start_monitor", "start_log_monitor") if hasattr(Node, name)]
    saved = {name: getattr(Node, name) for name in names}
    for name in names:
        setattr(Node, name, nothing)
    try:
        yield
    finally:
        for name, method in saved.items():
            setattr(Node, name, method)
