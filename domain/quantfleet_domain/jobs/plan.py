"""From a job to its task graph, and from a task to its work. Pure: a plan is never stored, only what it is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from quantfleet_domain.calibration.graph import NumericsClass
from quantfleet_domain.hardware.offers import ENGINES, REFERENCE_ENGINE
from quantfleet_domain.jobs.lifecycle import Task, TaskKind
from quantfleet_domain.jobs.spec import FileRef, JobSpec, ModelSpec
from quantfleet_domain.jobs.work import (
    BenchmarkWork,
    CalibrateWork,
    EvaluateWork,
    InspectResult,
    InspectWork,
    MergeResult,
    ModelForm,
    QuantizeResult,
    QuantizeWork,
    Result,
    Slice,
    Variant,
    Work,
)

SMALLEST_SHARD = 8
"""Samples below which another shard costs more (a process, a session) than it saves."""


@dataclass(frozen=True)
class Detail:
    """Which part of the job a task is: the fields that its kind does not use are empty or 0."""

    kind: TaskKind
    model: str = ""
    target: int = 0
    engine: str = ""
    runtime: str = ""
    precision: str = ""
    first: int = 0
    count: int = 0


@dataclass(frozen=True)
class Requirement:
    """What a device must have to be given a task. `cores`: how many a benchmark pins; `numerics`: a class."""

    engines: tuple[str, ...]
    pool: str
    exclusive: bool
    cores: int
    numerics: NumericsClass | None


@dataclass(frozen=True)
class NotOffered:
    """A cell of the report that an engine does not offer for this model: not applicable, and no failure."""

    model: str
    engine: str
    precision: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """The graph of a job: its tasks in an order in which needs come first, and what each is for."""

    tasks: tuple[Task, ...]
    details: Mapping[str, Detail]
    not_offered: tuple[NotOffered, ...]


def with_shards(spec: JobSpec, slots: int) -> JobSpec:
    """Settle every `auto` (0) number of shards for a fleet with so many free slots; no result depends on the choice."""

    def settle(shards: int, samples: int) -> int:
        wanted = shards or max(1, min(slots, samples // SMALLEST_SHARD))
        return min(wanted, samples)

    models = tuple(
        replace(
            model,
            calibration=model.calibration
            and replace(model.calibration, shards=settle(model.calibration.shards, model.calibration.data.samples)),
            evaluate=model.evaluate
            and replace(model.evaluate, shards=settle(model.evaluate.shards, model.evaluate.data.samples)),
        )
        for model in spec.models
    )
    return replace(spec, models=models)


def slices(samples: int, shards: int) -> tuple[tuple[int, int], ...]:
    """Cut 0 … samples − 1 into `shards` runs (first, count) whose sizes differ by one at most."""
    bounds = [samples * i // shards for i in range(shards + 1)]
    return tuple((a, b - a) for a, b in pairwise(bounds) if b > a)


def make_plan(spec: JobSpec) -> Plan:
    """The task graph of a job whose numbers of shards are settled."""
    tasks: list[Task] = []
    details: dict[str, Detail] = {}
    absent: list[NotOffered] = []

    def add(name: str, detail: Detail, needs: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> str:
        tasks.append(Task(id=name, kind=detail.kind, needs=needs, after=after))
        details[name] = detail
        return name

    for model in spec.models:
        name = model.name
        inspect = add(f"{name}/inspect", Detail(TaskKind.INSPECT, name))
        merged = inspect
        if model.calibration:
            shards = tuple(
                add(f"{name}/calibrate/{i}", Detail(TaskKind.CALIBRATE, name, first=first, count=count), (inspect,))
                for i, (first, count) in enumerate(slices(model.calibration.data.samples, model.calibration.shards))
            )
            merged = add(f"{name}/merge", Detail(TaskKind.MERGE, name), (inspect, *shards))
        quantized: dict[str, str] = {}
        for index, target in enumerate(model.targets):
            for engine in target.engines:
                offer = ENGINES[engine]
                if model.format not in offer.formats:
                    reason = f"{engine} does not read {model.format} models"
                    absent.extend(NotOffered(name, engine, p, reason) for p in target.precisions)
                    continue
                needs: tuple[str, ...] = (inspect,)
                if "int8" in target.precisions and not model.calibration:
                    absent.append(NotOffered(name, engine, "int8", "the job brings no calibration data"))
                if "int8" in _measurable(model, target.precisions):
                    if offer.runtime not in quantized:
                        quantized[offer.runtime] = add(
                            f"{name}/quantize/{offer.runtime}",
                            Detail(TaskKind.QUANTIZE, name, runtime=offer.runtime),
                            (merged,),
                        )
                    needs = (inspect, quantized[offer.runtime])
                base = Detail(TaskKind.BENCHMARK, name, index, engine, offer.runtime)
                if spec.benchmark.modes and _measurable(model, target.precisions):
                    add(f"{name}/benchmark/{index}/{engine}", base, needs)
                if model.evaluate:
                    for precision in _measurable(model, target.precisions):
                        for i, (first, count) in enumerate(slices(model.evaluate.data.samples, model.evaluate.shards)):
                            add(
                                f"{name}/evaluate/{index}/{engine}/{precision}/{i}",
                                replace(base, kind=TaskKind.EVALUATE, precision=precision, first=first, count=count),
                                needs if precision == "int8" else (inspect,),
                            )
    everything = tuple(task.id for task in tasks)
    add("report", Detail(TaskKind.REPORT), after=everything)
    return Plan(tuple(tasks), details, tuple(absent))


def _measurable(model: ModelSpec, precisions: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(p for p in precisions if p != "int8" or model.calibration)


def requirement(spec: JobSpec, detail: Detail, results: Mapping[str, Result]) -> Requirement:
    """What a device needs for this task, given the results of the tasks that it needs."""
    model = _model(spec, detail)
    match detail.kind:
        case TaskKind.CALIBRATE:
            return Requirement((REFERENCE_ENGINE,), "", False, 1, _inspected(detail.model, results).numerics)
        case TaskKind.BENCHMARK:
            target = model.targets[detail.target]
            return Requirement((detail.engine,), target.pool, True, max(target.threads), None)
        case TaskKind.EVALUATE:
            return Requirement((detail.engine,), model.targets[detail.target].pool, False, 1, None)
        case TaskKind.QUANTIZE if detail.runtime == "paddle":
            return Requirement(("paddle-cpu",), "", False, 1, None)
        case TaskKind.INSPECT if model.format == "paddle":
            return Requirement((REFERENCE_ENGINE, "paddle-cpu"), "", False, 1, None)
        case _:
            return Requirement((REFERENCE_ENGINE,), "", False, 1, None)


def work(spec: JobSpec, detail: Detail, results: Mapping[str, Result]) -> Work:
    """What a worker is asked to do for this task, given the results (by task id) of the tasks that it needs."""
    model = _model(spec, detail)
    match detail.kind:
        case TaskKind.INSPECT:
            return InspectWork(model.name, model.format, model.files, model.input_shapes, model.preprocess)
        case TaskKind.CALIBRATE:
            assert model.calibration is not None
            found = _inspected(model.name, results)
            data = Slice(model.calibration.data.manifest, detail.first, detail.count)
            return CalibrateWork(model.name, found.reference, found.graph, data, model.preprocess, found.numerics)
        case TaskKind.QUANTIZE:
            found = _inspected(model.name, results)
            merged = results[f"{model.name}/merge"]
            assert isinstance(merged, MergeResult)
            return QuantizeWork(
                model.name,
                detail.runtime,
                model.format,
                model.files,
                found.reference,
                found.graph,
                merged.scales,
                model.preprocess,
            )
        case TaskKind.BENCHMARK:
            target = model.targets[detail.target]
            return BenchmarkWork(
                model=model.name,
                engine=detail.engine,
                variants=tuple(
                    _variant(model, detail.runtime, p, results) for p in _measurable(model, target.precisions)
                ),
                modes=spec.benchmark.modes,
                threads=target.threads,
                batch_sizes=target.batch_sizes,
                warmup=spec.benchmark.warmup,
                repeat=spec.benchmark.repeat,
                require_quiet=spec.benchmark.require_quiet,
                memory=spec.benchmark.memory,
                input_shapes=_inspected(model.name, results).input_shapes,
                data=_any_samples(model),
                preprocess=model.preprocess,
            )
        case TaskKind.EVALUATE:
            assert model.evaluate is not None
            variant = _variant(model, detail.runtime, detail.precision, results)
            data = Slice(model.evaluate.data.manifest, detail.first, detail.count)
            shapes = _inspected(model.name, results).input_shapes
            return EvaluateWork(model.name, detail.engine, variant, shapes, data, model.preprocess)
        case TaskKind.MERGE | TaskKind.REPORT:
            raise AssertionError(f"{detail.kind} is done by the coordinator")


SAMPLES_FOR_LATENCY = 16
"""How many different samples feed a measurement, so that no single picture's decoding time stands for all."""


def _any_samples(model: ModelSpec) -> Slice | None:
    source = (model.evaluate and model.evaluate.data) or (model.calibration and model.calibration.data)
    return Slice(source.manifest, 0, min(SAMPLES_FOR_LATENCY, source.samples)) if source else None


def _variant(model: ModelSpec, runtime: str, precision: str, results: Mapping[str, Result]) -> Variant:
    if precision == "int8":
        quantized = results[f"{model.name}/quantize/{runtime}"]
        assert isinstance(quantized, QuantizeResult)
        return Variant(precision, "static", quantized.forms)
    # A shape that the job gives may not be the file's own: the reference graph has it.
    if runtime == "onnx" and (model.format != "onnx" or model.input_shapes):
        return Variant(precision, "none", (ModelForm("", (_inspected(model.name, results).reference,)),))
    return Variant(precision, "none", (ModelForm("", model.files),))


def _inspected(model: str, results: Mapping[str, Result]) -> InspectResult:
    found = results[f"{model}/inspect"]
    assert isinstance(found, InspectResult)
    return found


def _model(spec: JobSpec, detail: Detail) -> ModelSpec:
    return next(model for model in spec.models if model.name == detail.model)


def files_of(work_: Work) -> tuple[FileRef, ...]:
    """Every file that a task may read, apart from the samples that its manifest names."""
    match work_:
        case InspectWork():
            found = [*work_.files, work_.preprocess]
        case CalibrateWork():
            found = [work_.reference, work_.graph, work_.data.manifest, work_.preprocess]
        case QuantizeWork():
            found = [*work_.files, work_.reference, work_.graph, work_.scales, work_.preprocess]
        case BenchmarkWork():
            found = [ref for v in work_.variants for form in v.forms for ref in form.files]
            found += [work_.data.manifest if work_.data else None, work_.preprocess]
        case EvaluateWork():
            found = [ref for form in work_.variant.forms for ref in form.files]
            found += [work_.data.manifest, work_.preprocess]
    return tuple(ref for ref in found if ref is not None)


def slice_of(work_: Work) -> Slice | None:
    """The samples that a task reads, if any."""
    return None if isinstance(work_, InspectWork | QuantizeWork) else work_.data
