"""One attempt at a task on this node: inputs fetched, run in a slot, outputs uploaded, result delivered."""

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from quantfleet_domain.errors import Category, ErrorCode, QuantfleetError
from quantfleet_domain.hardware.facts import DeviceFacts
from quantfleet_domain.jobs.work import Work
from quantfleet_protos.v1 import base_pb2, fleet_pb2, task_pb2
from quantfleet_wire.codec import decode_union
from quantfleet_wire.content import disk_error
from quantfleet_wire.transfer import upload_missing
from quantfleet_worker.agent.cache import Cache
from quantfleet_worker.agent.companions import companions
from quantfleet_worker.agent.placing import engine_of, placed
from quantfleet_worker.equipment import Equipment
from quantfleet_worker.execution.outcome import Cancelled, Crashed, Failed, Result
from quantfleet_worker.execution.ray_host import RayHost
from quantfleet_worker.tasks.request import Surroundings, pack

if TYPE_CHECKING:
    from quantfleet_protos.v1.artifacts_pb2_grpc import ArtifactsAsyncStub
    from quantfleet_protos.v1.fleet_pb2_grpc import FleetAsyncStub

_log = logging.getLogger(__name__)

_RETRY_S = 0.5
_LAST_WORD_S = 2.0
_LOOK_S = 1.0
_DIGEST_LENGTH = 64


class Stubs(Protocol):
    """Gives the stubs of the channel of the moment: a renewed certificate brings a new channel."""

    def __call__(self) -> "tuple[FleetAsyncStub, ArtifactsAsyncStub]":
        """The Fleet and the Artifacts service."""
        ...


class Workshop:
    """What attempts share: the slots of each device, the cache, a directory for their outputs, and the `equipment`."""

    def __init__(
        self,
        host: RayHost,
        devices: Sequence[DeviceFacts],
        cache: Cache,
        directory: Path,
        incarnation: str,
        equipment: Equipment,
    ) -> None:
        shutil.rmtree(directory, ignore_errors=True)  # what an earlier run of the agent left
        directory.mkdir(parents=True)
        self.host = host
        self.cache = cache
        self.directory = directory
        self.incarnation = incarnation
        self.equipment = equipment
        self.devices = {facts.device: facts for facts in devices}
        self.free: dict[str, asyncio.Queue[int]] = {}
        for facts in devices:
            queue = self.free[facts.device] = asyncio.Queue()
            for index in range(len(facts.slots)):
                queue.put_nowait(index)


class Attempt:
    """A lease held by this node. `deadline` is when it runs out on this node's own monotonic clock."""

    def __init__(self, leased: fleet_pb2.LeasedTask, workshop: Workshop, stubs: Stubs) -> None:
        self._leased = leased
        self._workshop = workshop
        self._stubs = stubs
        self._slot = ""
        self._progress = (0.0, "waiting for its inputs")
        self._task: asyncio.Task[None] | None = None
        self.deadline = 0.0

    def start(self, ended: Callable[[], object]) -> None:
        """Begin; `ended` is called when nothing of it is left."""
        self._task = asyncio.create_task(self._go())
        self._task.add_done_callback(lambda _: ended())

    def stop(self, why: str) -> None:
        """Kill it; nothing of it will be delivered."""
        # Once: cancelling it again would free its slot before its child is gone.
        if self._task and not self._task.done() and not self._task.cancelling():
            _log.info("stopping %s of job %s: %s", self._leased.task_id, self._leased.job_id, why)
            self._task.cancel()

    async def give_back(self, why: str) -> None:
        """Tell the coordinator that this node will not finish it, if the coordinator can be told."""
        if self._task:
            await asyncio.wait([self._task])
        with suppress(QuantfleetError):
            failure = QuantfleetError(ErrorCode.TASK_LOST, why, "start the worker again")
            await self._stubs()[0].Fail(self._failure(failure, ""), timeout=_LAST_WORD_S)

    async def observe(self) -> None:
        """Look how far the child is, for a second at most: the leases of the whole node hang on the heartbeat."""
        if self._slot:
            with suppress(Exception):  # the actor may be between two lives, or stuck; the next heartbeat looks again
                async with asyncio.timeout(_LOOK_S):
                    self._progress = await self._workshop.host.progress(self._slot)

    def held(self) -> fleet_pb2.HeldTask:
        """This lease, for a heartbeat."""
        share, doing = self._progress
        leased = self._leased
        return fleet_pb2.HeldTask(
            job_id=leased.job_id, task_id=leased.task_id, epoch=leased.epoch, progress=share, doing=doing
        )

    async def _go(self) -> None:
        directory = self._workshop.directory
        try:
            with tempfile.TemporaryDirectory(dir=directory, ignore_cleanup_errors=True) as outputs:
                await self._run(Path(outputs))
        except QuantfleetError as error:
            await self._fail(error, "")
        except Exception as error:
            _log.exception("%s of job %s", self._leased.task_id, self._leased.job_id)
            await self._fail(_typed(error), "")

    async def _run(self, outputs: Path) -> None:
        work: Work = decode_union(self._leased.work, Work)
        facts = self._workshop.devices[self._leased.device]
        free = self._workshop.free[facts.device]
        index = await free.get()
        try:
            async with self._workshop.cache.inputs(self._stubs()[1], work):
                self._slot = f"{facts.device}/{index}"
                wanted = self._leased.cores if self._leased.exclusive else 0
                spec = placed(facts, engine_of(work), wanted, index, self._workshop.equipment)
                request = pack(self._surroundings(facts, spec.cores, outputs), work)
                outcome = await self._workshop.host.run(self._slot, request, spec)
        finally:
            self._slot = ""
            free.put_nowait(index)
        match outcome:
            case Result():
                self._progress = (1.0, "uploading")
                await self._deliver(outcome.payload, outputs)
            case Failed():
                await self._fail(outcome.error, outcome.log)
            case Crashed():
                await self._fail(outcome.error, outcome.tail)
            case Cancelled():
                await self._fail(QuantfleetError(ErrorCode.TASK_LOST, "its child process was killed"), "")

    def _surroundings(self, facts: DeviceFacts, cores: tuple[int, ...], outputs: Path) -> Surroundings:
        return Surroundings(
            cache=str(self._workshop.cache.directory),
            outputs=str(outputs),
            device=facts.device,
            cores=cores,
            isa=facts.isa,
            numerics_isa=facts.numerics_isa,
            companions=companions(),
            allowed_code=facts.allowed_code,
            kept=str(self._workshop.equipment.kept),
            phones=str(self._workshop.equipment.phones or ""),
        )

    async def _deliver(self, payload: bytes, outputs: Path) -> None:
        files = await asyncio.to_thread(_outputs, outputs)
        leased = self._leased
        request = fleet_pb2.CompleteRequest(
            incarnation=self._workshop.incarnation,
            job_id=leased.job_id,
            task_id=leased.task_id,
            epoch=leased.epoch,
            result=task_pb2.Result.FromString(payload),
        )
        while True:
            fleet, artifacts = self._stubs()
            try:
                await upload_missing(artifacts, files)
                await fleet.Complete(request)
                return
            except QuantfleetError as error:
                # The result is good: a coordinator that is away or full is waited for, until the lease ends this.
                if error.category not in (Category.UNREACHABLE, Category.EXHAUSTED):
                    raise
                await asyncio.sleep(_RETRY_S)

    async def _fail(self, error: QuantfleetError, log_tail: str) -> None:
        if error.category is Category.STALE:
            _log.info("%s of job %s: %s", self._leased.task_id, self._leased.job_id, error)
            return
        _log.warning("%s of job %s failed: %s", self._leased.task_id, self._leased.job_id, error)
        while True:
            try:
                await self._stubs()[0].Fail(self._failure(error, log_tail))
                return
            except QuantfleetError as refused:
                if refused.category is not Category.UNREACHABLE:
                    _log.info("the coordinator does not want this failure: %s", refused)
                    return
                await asyncio.sleep(_RETRY_S)

    def _failure(self, error: QuantfleetError, log_tail: str) -> fleet_pb2.FailRequest:
        leased = self._leased
        return fleet_pb2.FailRequest(
            incarnation=self._workshop.incarnation,
            job_id=leased.job_id,
            task_id=leased.task_id,
            epoch=leased.epoch,
            failure=base_pb2.Failure(code=error.code, what=error.what, todo=error.todo),
            log_tail=log_tail,
        )


def _typed(error: Exception) -> QuantfleetError:
    if isinstance(error, OSError) and error.filename:  # this node's disk; others are no files' errors
        return disk_error(error, Path(str(error.filename)))
    return QuantfleetError(ErrorCode.WORKER_FAILED, repr(error), "see the worker's log")


def _outputs(directory: Path) -> dict[str, Path]:
    return {path.name: path for path in directory.iterdir() if len(path.name) == _DIGEST_LENGTH}
