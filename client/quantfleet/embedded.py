"""Embedded mode: a coordinator and workers of one job on this machine, with TLS and Ray as in a fleet.

Not for a fleet that stays: see `quantfleet coordinator serve`.
"""

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from quantfleet.children import Child
from quantfleet.client import Client
from quantfleet.following import follow, submit
from quantfleet.jobfile.prepare import PreparedJob
from quantfleet.progress import Display
from quantfleet_domain.errors import ErrorCode, QuantfleetError

T = TypeVar("T")
READY_S = 60.0
LIVE_S = 180.0
DEFAULT_WORKERS = 2
_LEASE_S, _HEARTBEAT_S = 10.0, 1.0
_LOOK_S = 0.25


async def run_job(
    prepared: PreparedJob,
    finish: Callable[[Client, str], Awaitable[T]],
    display: Display,
    workers: int | None = None,
    keep_state: bool = False,
    worker_options: Sequence[str] = (),
    phones: Path | None = None,
) -> T:
    """Run one job on this machine to its end; returns what `finish` makes of it, given a client and the job's id.

    `workers` is how many nodes share the machine's cores (two, or one where there is one core); `worker_options` are
    options of `quantfleet worker run` for each, and `phones` is the list of phones that hang on the first. Raises
    QuantfleetError: USAGE for more workers than cores, TARGET_UNSERVABLE, WORKER_FAILED with the end of a log.
    """
    shares = core_shares(workers)
    async with _fleet(shares, display, keep_state, worker_options, phones) as (client, children):
        job = asyncio.create_task(_job(client, prepared, finish, display))
        watched = [asyncio.create_task(child.keep_alive()) for child in children]
        both: list[asyncio.Task[Any]] = [job, *watched]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for died in watched:
                if died.done() and not job.done():
                    died.result()
            return await job
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)


def core_shares(workers: int | None) -> list[tuple[int, ...]]:
    """The usable cores of this machine, dealt out to so many workers. Raises QuantfleetError(USAGE)."""
    from quantfleet_worker.probes.cpu import usable_cores

    cores = usable_cores(frozenset(os.sched_getaffinity(0)))
    count = min(DEFAULT_WORKERS, len(cores)) if workers is None else workers
    if not 1 <= count <= len(cores):
        what = f"{count} workers cannot share {len(cores)} core(s)"
        raise QuantfleetError(ErrorCode.USAGE, what, f"give --workers from 1 to {len(cores)}")
    bounds = [len(cores) * i // count for i in range(count + 1)]
    return [tuple(cores[a:b]) for a, b in pairwise(bounds)]


async def _job(
    client: Client, prepared: PreparedJob, finish: Callable[[Client, str], Awaitable[T]], display: Display
) -> T:
    job = await submit(client, prepared, display, must_be_servable=True)
    await follow(client, job, display)
    return await finish(client, job)


@asynccontextmanager
async def _fleet(
    shares: Sequence[tuple[int, ...]],
    display: Display,
    keep_state: bool,
    worker_options: Sequence[str],
    phones: Path | None,
) -> AsyncIterator[tuple[Client, list[Child]]]:
    """A coordinator and one live worker for each share of cores, all gone when the block ends."""
    state = Path(tempfile.mkdtemp(prefix="quantfleet-"))
    children: list[Child] = []
    try:
        with _terminated_as_cancelled():
            display.note(f"starting a coordinator and {len(shares)} worker(s) on this machine")
            coordinator = _coordinator(state)
            children.append(coordinator)
            await coordinator.start()
            found = json.loads(await coordinator.first_line(READY_S))
            coordinator.arguments += ["--listen", found["address"], "--enrol-listen", found["enrolment_address"]]
            async with Client.open(Path(found["credentials"])) as client:
                for i, cores in enumerate(shares):
                    own = ["--phones", str(phones)] if phones and i == 0 else []
                    children.append(await _worker(client, state, f"local-{i}", cores, [*worker_options, *own]))
                await _until_live(client, children[1:])
                yield client, children
    finally:
        await asyncio.shield(_end(children, state, display, keep_state))


def _coordinator(state: Path) -> Child:
    arguments = ["coordinator", "serve", "--json", "--state", str(state / "coordinator"), "--fleet", "embedded"]
    arguments += ["--lease-s", str(_LEASE_S), "--heartbeat-s", str(_HEARTBEAT_S), "--advertise", "127.0.0.1"]
    # The last of a repeated option counts: started again, it takes the ports that it had.
    arguments += ["--listen", "127.0.0.1:0", "--enrol-listen", "127.0.0.1:0"]
    return Child("coordinator", arguments, state / "coordinator.log", announces=True)


async def _worker(client: Client, state: Path, name: str, cores: tuple[int, ...], options: Sequence[str]) -> Child:
    from quantfleet_wire.joining import redeem

    directory = state / name
    token = await client.create_token("node", name, "", READY_S)
    await redeem(token.token, directory / "credentials", "node")
    listed = ",".join(str(core) for core in cores)
    arguments = ["worker", "run", "--state", str(directory), "--cores", listed, *options]
    child = Child(f"worker {name}", arguments, state / f"{name}.log")
    await child.start()
    return child


async def _until_live(client: Client, workers: Sequence[Child]) -> None:
    died = [asyncio.create_task(worker.keep_alive()) for worker in workers]
    try:
        async with asyncio.timeout(LIVE_S):
            while True:
                states = [node.state for node in await client.nodes()]
                if states.count("live") >= len(workers):
                    return
                for task in died:
                    if task.done():
                        task.result()
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise workers[0].failed(f"was not ready within {LIVE_S:g} s") from None
    finally:
        for task in died:
            task.cancel()
        await asyncio.gather(*died, return_exceptions=True)


async def _end(children: list[Child], state: Path, display: Display, keep_state: bool) -> None:
    # Workers first: they give their leases back to a coordinator that still answers.
    await asyncio.gather(*(child.stop() for child in children[1:]))
    await asyncio.gather(*(child.stop() for child in children[:1]))
    if keep_state:
        display.note(f"state and logs are kept in {state}")
    else:
        await asyncio.to_thread(shutil.rmtree, state, ignore_errors=True)


@contextmanager
def _terminated_as_cancelled() -> Iterator[None]:
    """While the block runs, SIGTERM cancels the task that entered it, so that everything is cleaned up."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
