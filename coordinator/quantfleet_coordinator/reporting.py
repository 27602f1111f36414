"""From a job's results to its report: which figure goes where. Not for computing figures, nor for showing them."""

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version

from quantfleet_coordinator.absences import absences
from quantfleet_coordinator.calibration_report import calibration
from quantfleet_coordinator.jobs.entry import JobEntry
from quantfleet_coordinator.nodes import Devices
from quantfleet_coordinator.report_warnings import warnings
from quantfleet_coordinator.training_report import trainings
from quantfleet_domain.hardware.facts import DeviceFacts
from quantfleet_domain.hardware.precisions import is_int8
from quantfleet_domain.jobs.lifecycle import JobState, Task, TaskKind, TaskState, ended_state
from quantfleet_domain.jobs.measured import (
    BenchmarkResult,
    EvaluateResult,
    Measured,
)
from quantfleet_domain.jobs.plan import Detail
from quantfleet_domain.jobs.spec import model_sha256
from quantfleet_domain.jobs.variants import VariantKey
from quantfleet_domain.measurement.latency import throughput_per_s
from quantfleet_domain.reporting import accuracy, gates
from quantfleet_domain.reporting.facts import facts_of, facts_of_device
from quantfleet_domain.reporting.report import (
    Accuracy,
    ConversionFigure,
    FleetDevice,
    JobError,
    JobSummary,
    ModelEntry,
    Report,
    Result,
    SpeedupFigure,
)

FP32 = VariantKey("fp32", "none")


def write_report(entry: JobEntry, devices: Devices, read: Callable[[str], bytes]) -> Report:
    """The report of a job all of whose other tasks have ended.

    `read` gives an artifact's bytes.
    """
    results = tuple(_results(entry))
    absent = tuple(dict.fromkeys(absences(entry)))
    failed = [t for t in entry.job.tasks.values() if t.state is TaskState.FAILED and t.failure]
    state = _state(entry)
    error = JobError(*(str(part) for part in _words(failed[0]))) if failed and state is JobState.FAILED else None
    took_part = {(t.node, t.device) for t in entry.job.tasks.values() if t.state is TaskState.SUCCEEDED}
    return Report(
        job=JobSummary(entry.record.id, entry.record.name, state, error),
        fleet=tuple(
            FleetDevice(node, name, facts_of_device(facts))
            for (node, name), facts in sorted(devices.items())
            if (node, name) in took_part
        ),
        models=tuple(
            ModelEntry(m.name, m.format, model_sha256(m.files), model_sha256(m.given.files) if m.given else None)
            for m in entry.spec.models
        ),
        calibration=calibration(entry, read),
        job_file=entry.spec.document,
        versions=_versions(entry, [facts for key, facts in devices.items() if key in took_part]),
        results=results,
        absent=absent,
        gates=gates.evaluate(entry.spec.gates, results),
        warnings=tuple(warnings(entry, devices)),
        training=trainings(entry),
    )


def _words(task: Task) -> tuple[str, str, str]:
    assert task.failure is not None
    return task.failure.code, task.failure.what, task.failure.todo


def _state(entry: JobEntry) -> JobState:
    """How the job will have ended once this report is stored."""
    report = next(task for task in entry.job.tasks.values() if task.kind is TaskKind.REPORT)
    return ended_state({**entry.job.tasks, report.id: replace(report, state=TaskState.SUCCEEDED)})


def _versions(entry: JobEntry, devices: Sequence[DeviceFacts]) -> dict[str, str]:
    """By package; where nodes had several versions of one, all of them."""
    found = {("quantfleet", version("quantfleet"))}
    found |= {(engine.name, engine.version) for facts in devices for engine in facts.engines if engine.available}
    found |= {(package.name, package.version) for facts in devices for package in facts.software}
    for result in entry.results.values():
        if isinstance(result, BenchmarkResult | EvaluateResult):
            found.add((result.engine, result.engine_version))
    return {name: ", ".join(sorted(v for other, v in found if other == name)) for name in sorted(dict(found))}


def _results(entry: JobEntry) -> Iterable[Result]:
    for name, detail in entry.plan.details.items():
        result = entry.results.get(name)
        task = entry.job.tasks[name]
        if detail.kind is TaskKind.BENCHMARK and isinstance(result, BenchmarkResult):
            for row in result.rows:
                yield _measured(entry, task, detail, result, row)
    yield from _only_evaluated(entry)


def _measured(entry: JobEntry, task: Task, detail: Detail, result: BenchmarkResult, row: Measured) -> Result:
    ratio = row.speedup
    speedup = SpeedupFigure(ratio.value, ratio.low, ratio.high, "fp32") if ratio else None
    told = is_int8(row.precision) and row.quantizable_nodes > 0  # else the engine does not say, or has nothing to count
    at = datetime.datetime.fromtimestamp(result.measured_at, datetime.UTC)
    return Result(
        model=detail.model,
        node=task.node,
        device=task.device,
        engine=result.engine,
        engine_version=result.engine_version,
        precision=row.precision,
        quantization=row.quantization,
        form=row.form or None,
        input_shapes={shape.name: shape.dims for shape in row.input_shapes},
        mode=row.mode,
        threads=row.threads,
        batch=row.batch,
        warmup=result.warmup,
        repeat=result.repeat,
        measured_at=at.isoformat(timespec="seconds"),
        latency_ms=row.latency,
        throughput_per_s=throughput_per_s(row.latency, row.batch),
        speedup=speedup,
        accuracy=_accuracy(entry, detail, VariantKey(row.precision, row.quantization)),
        int8_nodes=row.int8_nodes if told else None,
        quantizable_nodes=row.quantizable_nodes if told else None,
        model_bytes=row.model_bytes,
        quiet=row.quiet,
        settings_in_effect={setting.name: setting.value for setting in row.settings},
        samples_artifact=result.samples.digest,
        blocks=result.blocks,
        fallbacks=row.fallbacks,
        noise=row.noise,
        conditions=facts_of(row.conditions),
        memory_mb=row.memory_mb,
        int8_operators=row.int8_operators,
        parts_ms={part.name: part.mean_ms for part in row.parts},
        conversions=tuple(ConversionFigure(c.operator, c.count, c.time_share) for c in row.conversions),
    )


def _shards(entry: JobEntry, detail: Detail, key: VariantKey) -> list[EvaluateResult]:
    """The evaluation of one variant, if all of its shards are there."""
    prefix = f"{detail.model}/evaluate/{detail.target}/{detail.engine}/{key.name}/"
    tasks = [name for name in entry.plan.details if name.startswith(prefix)]
    found = [entry.results.get(name) for name in tasks]
    complete = [part for part in found if isinstance(part, EvaluateResult)]
    return complete if tasks and len(complete) == len(tasks) else []


def _accuracy(entry: JobEntry, detail: Detail, key: VariantKey) -> tuple[Accuracy, ...]:
    """The metrics that the job asks for, and for other variants than FP32 how far they agree with it."""
    model = next(m for m in entry.spec.models if m.name == detail.model)
    parts = _shards(entry, detail, key)
    if not parts or not model.evaluate:
        return ()
    reference = _shards(entry, detail, FP32) if key != FP32 else []
    return accuracy.figures(model.evaluate.metrics, parts, reference)


def _only_evaluated(entry: JobEntry) -> Iterable[Result]:
    """Rows for variants that were evaluated though nothing was timed."""
    seen: set[tuple[str, int, str, VariantKey]] = set()
    for name, detail in entry.plan.details.items():
        variant = VariantKey(detail.precision, detail.quantization)
        key = (detail.model, detail.target, detail.engine, variant)
        timed = entry.results.get(f"{detail.model}/benchmark/{detail.target}/{detail.engine}")
        rows = timed.rows if isinstance(timed, BenchmarkResult) else ()
        measured = any(VariantKey(row.precision, row.quantization) == variant for row in rows)
        if detail.kind is not TaskKind.EVALUATE or key in seen or measured:
            continue
        seen.add(key)
        parts = _shards(entry, detail, variant)
        if parts:
            task, first = entry.job.tasks[name], parts[0]
            yield Result(
                model=detail.model,
                node=task.node,
                device=task.device,
                engine=first.engine,
                engine_version=first.engine_version,
                precision=first.precision,
                quantization=first.quantization,
                form=first.form or None,
                input_shapes={},
                mode=None,
                threads=None,
                batch=None,
                warmup=None,
                repeat=None,
                measured_at=None,
                latency_ms=None,
                throughput_per_s=None,
                speedup=None,
                accuracy=_accuracy(entry, detail, variant),
                int8_nodes=None,
                quantizable_nodes=None,
                model_bytes=None,
                quiet=None,
                settings_in_effect={},
                samples_artifact=None,
            )
