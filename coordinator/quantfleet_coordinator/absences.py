"""Which cells of a report are absent, and why. Not for the figures that are there."""

from collections.abc import Iterable, Iterator

from quantfleet_coordinator.jobs.entry import JobEntry
from quantfleet_domain.hardware.offers import ENGINES
from quantfleet_domain.hardware.precisions import is_quantized
from quantfleet_domain.jobs.lifecycle import Task, TaskKind, TaskState
from quantfleet_domain.jobs.measured import BenchmarkResult
from quantfleet_domain.jobs.plan import Detail
from quantfleet_domain.jobs.variants import VariantKey, measurable
from quantfleet_domain.reporting.report import Absent

_Cell = tuple[str, int, str, VariantKey, str]
"""Model, target, engine, variant and reason."""
_MEASURING = (TaskKind.BENCHMARK, TaskKind.EVALUATE)
_WITHOUT_RESULT = (TaskState.FAILED, TaskState.SKIPPED, TaskState.CANCELLED)


def absences(entry: JobEntry) -> Iterator[Absent]:
    """The cells that a job asked for and that its report lacks: first those that no engine offers.

    What an engine refuses to measure it refuses to evaluate too, maybe on another node: that is one absence.
    """
    for offered in entry.plan.not_offered:
        key = VariantKey(offered.precision, offered.quantization)
        where = (None, None, offered.engine, offered.precision, _quantization(key), offered.reason)
        yield Absent(*where, model=offered.model, applicable=False)
    told: set[_Cell] = set()
    for name, detail in entry.plan.details.items():
        task, result = entry.job.tasks[name], entry.results.get(name)
        if detail.kind is TaskKind.BENCHMARK and isinstance(result, BenchmarkResult):
            yield from _unmeasured(task, detail, result, told)
        elif detail.kind in _MEASURING and task.state in _WITHOUT_RESULT:
            yield from _lost(entry, task, detail, told)


def _unmeasured(task: Task, detail: Detail, result: BenchmarkResult, told: set[_Cell]) -> Iterable[Absent]:
    for gap in result.absent:
        key = VariantKey(gap.precision, gap.quantization)
        told.add((detail.model, detail.target, detail.engine, key, gap.reason))
        where = (task.node, task.device, result.engine, gap.precision, _quantization(key), gap.reason)
        cell = (gap.mode or None, gap.threads or None, gap.batch or None)
        yield Absent(*where, detail.model, *cell, gap.applicable)


def _lost(entry: JobEntry, task: Task, detail: Detail, told: set[_Cell]) -> Iterable[Absent]:
    model = entry.model_of(task)
    reason = task.failure.what if task.failure else "it was cancelled"
    asked = measurable(model, ENGINES[detail.engine], model.targets[detail.target].precisions)
    for key in [VariantKey(detail.precision, detail.quantization)] if detail.precision else asked:
        cell = (detail.model, detail.target, detail.engine, key, reason)
        if cell not in told:
            told.add(cell)
            where = (task.node or None, task.device or None, detail.engine, key.precision, _quantization(key), reason)
            yield Absent(*where, model=detail.model)


def _quantization(key: VariantKey) -> str | None:
    return key.quantization if is_quantized(key.precision) else None
