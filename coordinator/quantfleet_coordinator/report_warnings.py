"""What a report warns its reader of: what was not made, and figures that are less than they seem. Not for errors."""

from collections.abc import Iterable

from quantfleet_coordinator.jobs.entry import JobEntry
from quantfleet_coordinator.nodes import Devices
from quantfleet_domain.hardware.precisions import is_int8
from quantfleet_domain.jobs.lifecycle import Task, TaskKind, TaskState
from quantfleet_domain.jobs.measured import (
    BenchmarkResult,
    EvaluateResult,
)
from quantfleet_domain.jobs.plan import Detail
from quantfleet_domain.jobs.task_results import (
    InspectResult,
    MergeResult,
    QuantizeResult,
)


def warnings(entry: JobEntry, devices: Devices) -> Iterable[str]:
    """The warnings of tasks, of makers that failed, of how tables came about, and of where figures were taken."""
    for name, result in entry.results.items():
        if isinstance(result, InspectResult | MergeResult | QuantizeResult | BenchmarkResult):
            yield from (f"{name}: {warning}" for warning in result.warnings)
    for name, task in entry.job.tasks.items():
        # A quantization is skipped where the calibration before it failed; its cells speak of this warning.
        skipped = task.kind is TaskKind.QUANTIZE and task.state is TaskState.SKIPPED
        failed = task.kind in (TaskKind.QUANTIZE, TaskKind.TRAIN) and task.state is TaskState.FAILED
        if task.failure and (failed or skipped):
            yield f"{name} {'failed' if failed else 'was not done'}: {task.failure.what} ({task.failure.todo})"
    for model in entry.spec.models:
        if "native" in model.quantizations:
            yield f"{model.name}: native ranges are an engine's own, found on one device: no law says that they repeat"
        if model.calibration and model.calibration.mixed:
            yield f"{model.name}: nodes of any instruction set calibrated it: its table is not exact to the bit"
        if model.calibration and model.calibration.scales:
            uncorrected = "" if model.calibration.data else ", with no samples to correct biases on"
            yield f"{model.name}: the job brought its scale table{uncorrected}"
    yield from _of_places(entry, devices)


def _of_places(entry: JobEntry, devices: Devices) -> Iterable[str]:
    """Whether INT8 ran as INT8, and latency and accuracy are of one form and of devices of one kind."""
    kinds: dict[tuple[str, str, str], tuple[set[str], set[str]]] = {}
    for name, detail in entry.plan.details.items():
        place = f"{detail.model}/{detail.target}"

        def kinds_of(quantization: str, place: str = place, detail: Detail = detail) -> tuple[set[str], set[str]]:
            return kinds.setdefault((place, detail.engine, quantization), (set(), set()))

        where = _model_of(devices, entry.job.tasks[name])
        match entry.results.get(name):
            case BenchmarkResult() as result:
                int8 = [row for row in result.rows if is_int8(row.precision)]
                for row in int8:
                    kinds_of(row.quantization)[0].add(f"{row.form} of {result.engine_version}{where}")
                if any(row.quantizable_nodes and not row.int8_nodes for row in int8):
                    yield f"{detail.model}: {result.engine} ran none of the INT8 model's nodes in INT8"
            case EvaluateResult() as result if is_int8(result.precision):
                kinds_of(result.quantization)[1].add(f"{result.form} of {result.engine_version}{where}")
    for (place, engine, _), (timed, evaluated) in kinds.items():
        name = place.rpartition("/")[0]
        if len(evaluated) > 1:
            yield f"{name}: the evaluation on {engine} is spread over nodes of different kinds"
        elif timed and evaluated and timed != evaluated:
            ran, judged = ", ".join(sorted(timed)), ", ".join(evaluated)
            yield f"{name}: on {engine} the latency is of form {ran}, the accuracy of form {judged} on another node"


def _model_of(devices: Devices, task: Task) -> str:
    """Which GPU or phone a task ran on, in words. What matters of a processor is in the form that it takes."""
    facts = devices.get((task.node, task.device))
    return "" if facts is None or facts.kind == "cpu" else f" on {facts.model_name}"
