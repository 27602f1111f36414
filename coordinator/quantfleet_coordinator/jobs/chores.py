"""The coordinator's own tasks: merging partial statistics into the scale table, and writing the report."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from quantfleet_coordinator.jobs.entry import COORDINATOR, JobEntry, digest_of, result_bytes
from quantfleet_coordinator.jobs.ledger import Ledger
from quantfleet_coordinator.reporting import Devices, write_report
from quantfleet_coordinator.store.base import storable
from quantfleet_domain.calibration.calibrators import calibrator_named
from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.calibration.partial import Partial, merge_partials
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.errors import Category, ErrorCode, QuantfleetError
from quantfleet_domain.jobs.lifecycle import Completed, Failed, Failure, Leased, Task, TaskKind, TaskState
from quantfleet_domain.jobs.spec import FileRef
from quantfleet_domain.jobs.work import CalibrateResult, InspectResult, MergeResult, ReportResult

_log = logging.getLogger(__name__)
PAUSE_S = 1.0
SELF = "coordinator"
"""What stands for a node in tasks that the coordinator does itself."""


class Chores:
    """Does ready merge and report tasks, one at a time, off the event loop.

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
            found = next(((e, t) for e, t in self._ledger.tasks_in(TaskState.READY) if t.kind in COORDINATOR), None)
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
        outcome = await asyncio.to_thread(self._work, frozen, task, devices)
        if not isinstance(outcome, Failure):
            made = outcome.scales if isinstance(outcome, MergeResult) else outcome.report
            await self._record(made.digest, made.size)
        job = entry.record.id
        now = self._ledger.jobs.get(job)  # another object, if the state was loaded anew meanwhile
        current = now.job.tasks[task.id] if now else None
        if current is None or current.state is not TaskState.READY or current.epoch != task.epoch:
            return
        leased = self._ledger.change(job, Leased(task.id, SELF, ""))
        if isinstance(outcome, Failure):
            changed = self._ledger.change(job, Failed(task.id, task.epoch, SELF, outcome))
        else:
            digest = digest_of(result_bytes(outcome))
            changed = self._ledger.change(job, Completed(task.id, task.epoch, SELF, digest), outcome)
        await self._ledger.record(*leased, *changed)

    def _work(self, entry: JobEntry, task: Task, devices: Devices) -> MergeResult | ReportResult | Failure:
        try:
            if task.kind is TaskKind.MERGE:
                return self._merge(entry, entry.plan.details[task.id].model)
            return self._report(entry, devices)
        except QuantfleetError as error:
            if error.category in (Category.EXHAUSTED, Category.UNREACHABLE):
                raise  # this disk is full or fails: no fault of the task, and no use in trying at once
            return Failure(error.code, storable(error.what), storable(error.todo))  # it may quote what a node sent
        except Exception as error:
            _log.exception("%s of job %s failed", task.id, entry.record.id)
            return Failure(ErrorCode.INTERNAL, f"{task.id} failed: {error!r}", "see the coordinator's log")

    def _merge(self, entry: JobEntry, name: str) -> MergeResult:
        model = next(m for m in entry.spec.models if m.name == name)
        assert model.calibration is not None
        parts = [
            r
            for key, r in entry.results.items()
            if key.startswith(f"{name}/calibrate/") and isinstance(r, CalibrateResult)
        ]
        inspected = entry.results[f"{name}/inspect"]
        assert isinstance(inspected, InspectResult)
        merged = merge_partials([Partial.decode(self._read(part.partial.digest)) for part in parts])
        if merged.numerics_class != inspected.numerics:
            raise QuantfleetError(
                ErrorCode.NUMERICS_MISMATCH,
                f"the partial statistics of {name} are of another numerics class than its reference graph",
                "run one version of quantfleet on all nodes of one kind",
            )
        if merged.samples != set(range(model.calibration.data.samples)):
            raise QuantfleetError(
                ErrorCode.PARTIAL_INVALID,
                f"the partial statistics of {name} do not cover its manifest",
                "retry the job",
            )
        percentile = model.calibration.percentile if model.calibration.calibrator == "percentile" else None
        calibrator = calibrator_named(model.calibration.calibrator, percentile)
        table = ScaleTable.build(
            merged,
            CalibrationGraph.from_json(self._read(inspected.graph.digest)),
            calibrator,
            manifest=model.calibration.data.manifest.digest,
            preprocessing=inspected.numerics.preprocessing,
        ).to_json()
        scales = FileRef("scales.json", self._put(table), len(table))
        return MergeResult(scales, len(merged.samples), len(parts), sum(part.seconds for part in parts))

    def _report(self, entry: JobEntry, devices: Devices) -> ReportResult:
        report = write_report(entry, devices).to_json()
        return ReportResult(FileRef("report.json", self._put(report), len(report)))
