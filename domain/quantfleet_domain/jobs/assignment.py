"""From a task to what it asks of a device and of a worker, given the results of the tasks that it needs. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from quantfleet_domain.calibration.correction import CHECKPOINTS
from quantfleet_domain.calibration.graph import MIXED, NumericsClass
from quantfleet_domain.calibration.statistic import EXTREMES_VERSION
from quantfleet_domain.hardware.offers import REFERENCE_ENGINE
from quantfleet_domain.jobs.lifecycle import TaskKind
from quantfleet_domain.jobs.plan import Detail, corrected_runtimes, measurable, shard_of
from quantfleet_domain.jobs.spec import FileRef, JobSpec, ModelSpec, kind_of
from quantfleet_domain.jobs.work import (
    BenchmarkWork,
    CalibrateWork,
    ChooseResult,
    CorrectWork,
    EvaluateWork,
    InspectResult,
    InspectWork,
    MergeResult,
    ModelForm,
    QuantizeResult,
    QuantizeWork,
    RecallResult,
    Result,
    ScoreWork,
    SettleResult,
    Slice,
    Variant,
    Work,
)


@dataclass(frozen=True)
class Requirement:
    """What a device must have to be given a task. `cores`: how many a benchmark pins; `numerics`: a class."""

    engines: tuple[str, ...]
    pool: str
    exclusive: bool
    cores: int
    numerics: NumericsClass | None


def requirement(spec: JobSpec, detail: Detail, results: Mapping[str, Result]) -> Requirement:
    """What a device needs for this task, given the results of the tasks that it needs."""
    model = _model(spec, detail)
    match detail.kind:
        case TaskKind.CALIBRATE | TaskKind.SCORE | TaskKind.CORRECT:
            return Requirement((REFERENCE_ENGINE,), "", False, 1, numerics_of(model, results))
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
            found = _inspected(model.name, results)
            data = data_of(spec, detail, results)
            numerics = numerics_of(model, results)
            return CalibrateWork(model.name, found.reference, found.graph, data, model.preprocess, numerics)
        case TaskKind.SCORE:
            found = _inspected(model.name, results)
            return ScoreWork(
                model=model.name,
                reference=found.reference,
                graph=found.graph,
                candidates=_merged(model.name, results).candidates,
                data=data_of(spec, detail, results),
                preprocess=model.preprocess,
                numerics=numerics_of(model, results),
            )
        case TaskKind.CORRECT:
            found = _inspected(model.name, results)
            return CorrectWork(
                model=model.name,
                reference=found.reference,
                graph=found.graph,
                scales=scales_of(model.name, results),
                corrections=corrections_of(model.name, results) if detail.stage else None,
                runtimes=corrected_runtimes(model),
                stage=detail.stage,
                data=data_of(spec, detail, results),
                preprocess=model.preprocess,
                numerics=numerics_of(model, results),
            )
        case TaskKind.QUANTIZE:
            found = _inspected(model.name, results)
            return QuantizeWork(
                model=model.name,
                runtime=detail.runtime,
                format=model.format,
                files=model.files,
                reference=found.reference,
                graph=found.graph,
                scales=scales_of(model.name, results),
                preprocess=model.preprocess,
                corrections=corrections_of(model.name, results),
            )
        case TaskKind.BENCHMARK:
            target = model.targets[detail.target]
            return BenchmarkWork(
                model=model.name,
                engine=detail.engine,
                variants=tuple(
                    _variant(model, detail.runtime, p, results) for p in measurable(model, target.precisions)
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
                kind=kind_of(model.evaluate.metrics) if model.evaluate else None,
            )
        case TaskKind.EVALUATE:
            assert model.evaluate is not None
            variant = _variant(model, detail.runtime, detail.precision, results)
            data = data_of(spec, detail, results)
            shapes = _inspected(model.name, results).input_shapes
            return EvaluateWork(
                model=model.name,
                engine=detail.engine,
                variant=variant,
                input_shapes=shapes,
                data=data,
                preprocess=model.preprocess,
                kind=kind_of(model.evaluate.metrics),
                annotations=model.evaluate.data.annotations,
            )
        case TaskKind.RECALL | TaskKind.MERGE | TaskKind.CHOOSE | TaskKind.SETTLE | TaskKind.REPORT:
            raise AssertionError(f"{detail.kind} is done by the coordinator")


def data_of(spec: JobSpec, detail: Detail, results: Mapping[str, Result]) -> Slice:
    """The samples of a calibrate, score, correct or evaluate task; none where there are fewer samples than shards."""
    model = _model(spec, detail)
    match detail.kind:
        case TaskKind.CALIBRATE:
            recalled = results[f"{model.name}/recall"]
            assert isinstance(recalled, RecallResult)
            manifest, samples = recalled.missing, recalled.samples
        case TaskKind.SCORE:
            merged = _merged(model.name, results)
            manifest, samples = merged.held_back, merged.held_back_samples
        case TaskKind.CORRECT:
            merged = _merged(model.name, results)
            manifest, samples = merged.excerpt, merged.excerpt_samples
        case _:
            assert model.evaluate is not None
            manifest, samples = model.evaluate.data.manifest, model.evaluate.data.samples
    first, count = shard_of(samples, detail.shard, detail.shards)
    return Slice(manifest, first, count)


def is_idle(spec: JobSpec, detail: Detail, results: Mapping[str, Result]) -> bool:
    """Whether a task that could be leased has no samples, so that nobody need run it."""
    sharded = (TaskKind.CALIBRATE, TaskKind.SCORE)
    return detail.kind in sharded and data_of(spec, detail, results).count == 0


def numerics_of(model: ModelSpec, results: Mapping[str, Result]) -> NumericsClass:
    """The numerics class in which a model is calibrated: that of its inspection, but for what the job changes.

    The ISA is any where the job allows it, and the statistic another where the job wants extremes alone.
    """
    numerics = _inspected(model.name, results).numerics
    if model.calibration and model.calibration.mixed:
        numerics = replace(numerics, isa=MIXED)
    if model.calibration and model.calibration.extremes_only:
        numerics = replace(numerics, statistic_version=EXTREMES_VERSION)
    return numerics


def scales_of(model: str, results: Mapping[str, Result]) -> FileRef:
    """The model's scale table: the chosen one where several were candidates."""
    chosen = results.get(f"{model}/choose")
    return chosen.scales if isinstance(chosen, ChooseResult) else _merged(model, results).scales


def corrections_of(model: str, results: Mapping[str, Result]) -> FileRef | None:
    """The model's bias corrections after the last stage done; None where there are none."""
    stages = (results.get(f"{model}/settle/{stage}") for stage in range(CHECKPOINTS, -1, -1))
    return next((found.corrections for found in stages if isinstance(found, SettleResult)), None)


def _merged(model: str, results: Mapping[str, Result]) -> MergeResult:
    found = results[f"{model}/merge"]
    assert isinstance(found, MergeResult)
    return found


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
    """Every file that a task may read, apart from the samples and masks that its manifest names."""
    match work_:
        case InspectWork():
            found = [*work_.files, work_.preprocess]
        case CalibrateWork():
            found = [work_.reference, work_.graph, work_.data.manifest, work_.preprocess]
        case ScoreWork():
            found = [work_.reference, work_.graph, *work_.candidates, work_.data.manifest, work_.preprocess]
        case CorrectWork():
            found = [work_.reference, work_.graph, work_.scales, work_.corrections]
            found += [work_.data.manifest, work_.preprocess]
        case QuantizeWork():
            found = [*work_.files, work_.reference, work_.graph, work_.scales, work_.corrections, work_.preprocess]
        case BenchmarkWork():
            found = [ref for v in work_.variants for form in v.forms for ref in form.files]
            found += [work_.data.manifest if work_.data else None, work_.preprocess]
        case EvaluateWork():
            found = [ref for form in work_.variant.forms for ref in form.files]
            found += [work_.data.manifest, work_.preprocess, work_.annotations]
    return tuple(ref for ref in found if ref is not None)


def slice_of(work_: Work) -> Slice | None:
    """The samples that a task reads, if any."""
    return None if isinstance(work_, InspectWork | QuantizeWork) else work_.data
