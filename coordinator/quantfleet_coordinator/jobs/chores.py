"""Does the coordinator's own tasks as they become ready. Not for what they are (see `calibrating`, `reporting`)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from quantfleet_coordinator.calibrating import Calibrating, kept_partials
from quantfleet_coordinator.jobs.entry import JobEntry, digest_of, manifests_of, result_bytes
from quantfleet_coordinator.jobs.ledger import Ledger
from quantfleet_coordinator.nodes import Devices
from quantfleet_coordinator.reporting import write_report
from quantfleet_coordinator.store.base import storable
from quantfleet_domain.errors import Category, ErrorCode, QuantfleetError
from quantfleet_domain.jobs.lifecycle import Completed, Failed, Failure, Leased, Task, TaskKind, TaskState
from quantfleet_domain.jobs.made import numerics_of
from quantfleet_domain.jobs.manifest import Manifest
from quantfleet_domain.jobs.spec import FileRef
from quantfleet_domain.jobs.task_results import (
    CalibrateResult,
    InspectResult,
    KeptPartial,
    ReportResult,
    Result,
    SumsResult,
)

_log = logging.getLogger(__name__)
PAUSE_S = 1.0
SELF = "coordinator"
"""What stands for a node in tasks that the coordinator does itself."""


class Chores:
    """Does ready tasks that are the coordinator's own, one at a time, off the event loop.

    Nothing of a chore is stored before it is done: after a crash it is simply done again, with the same bytes.
    """

    def __init__(
        self,
        ledger: Ledger,
        read: Callable[[str], bytes],
        put: Callable[[bytes], str],
        record: Callable[[str, int], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._read = read
        self._put = put
        self._record = record

    async def run(self) -> None:
        """For ever: do whatever becomes ready."""
        while True:
            found = next(((e, t) for e, t in self._ledger.tasks_in(TaskState.READY) if e.is_chore(t)), None)
            if found is None:
                await self._ledger.changes.wait(1.0)
                continue
            entry, task = found
            try:
                await self._do(entry, task)
            except QuantfleetError as error:
                # The store failed, or the disk: what is still to do is found again.
                _log.warning("%s of job %s: %s", task.id, entry.record.id, error)
                await asyncio.sleep(PAUSE_S)
            except Exception:  # without this loop no job would ever end
                _log.exception("%s of job %s failed", task.id, entry.record.id)
                await asyncio.sleep(PAUSE_S)

    async def _do(self, entry: JobEntry, task: Task) -> None:
        # The thread gets what no one else changes meanwhile.
        devices = {(node.name, facts.device): facts for node in self._ledger.nodes for facts in node.devices}
        frozen = replace(entry, results=dict(entry.results))
        offered = self._offered(entry, task) if task.kind is TaskKind.RECALL else ()
        made: dict[str, int] = {}
        outcome, manifests = await asyncio.to_thread(self._work, frozen, task, devices, offered, made)
        for digest, size in made.items():
            await self._record(digest, size)
        job = entry.record.id
        now = self._ledger.jobs.get(job)  # another object, if the state was loaded anew meanwhile
        current = now.job.tasks[task.id] if now else None
        if now is None or current is None or current.state is not TaskState.READY or current.epoch != task.epoch:
            return
        leased = self._ledger.change(job, Leased(task.id, SELF, ""))
        if isinstance(outcome, Failure):
            changed = self._ledger.change(job, Failed(task.id, task.epoch, SELF, outcome))
        else:
            now.manifests.update(manifests)
            digest = digest_of(result_bytes(outcome))
            changed = self._ledger.change(job, Completed(task.id, task.epoch, SELF, digest), outcome)
        await self._ledger.record(*leased, *changed)

    def _offered(self, entry: JobEntry, task: Task) -> list[KeptPartial]:
        """Partials of the same numerics class that any job has, this one included."""
        model = entry.model_of(task)
        if model.calibration and not model.calibration.reuse:
            return []
        wanted = numerics_of(model, entry.results)
        found = []
        for other in self._ledger.jobs.values():
            for candidate in other.spec.models:
                inspected = isinstance(other.results.get(f"{candidate.name}/inspect"), InspectResult)
                if candidate.calibration and inspected and numerics_of(candidate, other.results) == wanted:
                    found += kept_partials(other, candidate)
        return list(dict.fromkeys(found))

    def _work(
        self, entry: JobEntry, task: Task, devices: Devices, offered: Sequence[KeptPartial], made: dict[str, int]
    ) -> tuple[Result | Failure, dict[str, Manifest]]:
        """The outcome, and the manifests that it made; `made` gets the size of every artifact stored."""

        def put(content: bytes) -> str:
            digest = self._put(content)
            made[digest] = len(content)
            return digest

        try:
            result = self._do_now(entry, task, devices, offered, put)
            return result, {ref.digest: Manifest.from_json(self._read(ref.digest)) for ref in manifests_of(result)}
        except QuantfleetError as error:
            if error.category in (Category.EXHAUSTED, Category.UNREACHABLE):
                raise  # this disk is full or fails: no fault of the task, and no use in trying at once
            return Failure(error.code, storable(error.what), storable(error.todo)), {}  # it may quote what a node sent
        except Exception as error:
            _log.exception("%s of job %s failed", task.id, entry.record.id)
            return Failure(ErrorCode.INTERNAL, f"{task.id} failed: {error!r}", "see the coordinator's log"), {}

    def _do_now(
        self,
        entry: JobEntry,
        task: Task,
        devices: Devices,
        offered: Sequence[KeptPartial],
        put: Callable[[bytes], str],
    ) -> Result:
        if task.kind is TaskKind.REPORT:
            report = write_report(entry, devices, self._read).to_json()
            return ReportResult(FileRef("report.json", put(report), len(report)))
        calibrating = Calibrating(entry, entry.model_of(task), self._read, put)
        match task.kind:
            case TaskKind.RECALL:
                return calibrating.recall(offered)
            case TaskKind.MERGE:
                return calibrating.merge()
            case TaskKind.CHOOSE:
                return calibrating.choose()
            case TaskKind.SETTLE:
                return calibrating.settle(entry.plan.details[task.id].stage)
            case TaskKind.CALIBRATE:
                return CalibrateResult((), 0, 0.0, "")
            case _:
                return SumsResult(None, 0, 0.0)
