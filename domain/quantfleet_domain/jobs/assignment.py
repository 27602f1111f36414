"""From a task to what it asks of a device and of a worker, given the results of the tasks that it needs. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from quantfleet_domain.calibration.correction import CHECKPOINTS
from quantfleet_domain.calibration.graph import MIXED, NumericsClass
from quantfleet_domain.calibration.statistic import EXTREMES_VERSION
from quantfleet_domain.hardware.offers import ENGINES, REFERENCE_ENGINE
from quantfleet_domain.jobs.lifecycle import TaskKind
from quantfleet_domain.jobs.plan import Detail, corrected_runtimes, shard_of
from quantfleet_domain.jobs.spec import TRAINED, FileRef, JobSpec, ModelSpec, kind_of
from quantfleet_domain.jobs.task_results import (
    ChooseResult,
    InspectResult,
    MergeResult,
    QuantizeResult,
    RecallResult,
    Result,
    SettleResult,
    TrainResult,
)
from quantfleet_domain.jobs.variants import VariantKey, measurable
from quantfleet_domain.jobs.work import (
    Absence,
    BenchmarkWork,
    CalibrateWork,
    CorrectWork,
    EvaluateWork,
    InspectWork,
    ModelForm,
    QuantizeWork,
    ScoreWork,
    Slice,
    TrainWork,
    Validation,
    Variant,
    Work,
)

DISTILLERS = ("paddleslim",)
"""The packages that a distillation needs besides Paddle."""
NOT_MADE = "its quantized model was not made: see the warnings"


@dataclass(frozen=True)
class Requirement:
    """What a device must have to be given a task. `cores`: how many a benchmark pins; `numerics`: a class; `software`:
    packages besides the engines; `code`: a user's package that the node's owner must have allowed."""

    engines: tuple[str, ...]
    pool: str
    exclusive: bool
    cores: int
    numerics: NumericsClass | None
    software: tuple[str, ...] = ()
    code: str = ""


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
        case TaskKind.TRAIN:
            package = model.training(detail.quantization).package
            software = () if package else DISTILLERS
            return Requirement((REFERENCE_ENGINE, "paddle-cpu"), "", False, 1, None, software, package)
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
            return InspectWork(
                model.name, model.format, model.files, model.input_shapes, model.preprocess, model.quantized
            )
        case TaskKind.CALIBRATE:
            reference, graph = _reference(model.name, results)
            data = data_of(spec, detail, results)
            numerics = numerics_of(model, results)
            return CalibrateWork(model.name, reference, graph, data, model.preprocess, numerics)
        case TaskKind.SCORE:
            reference, graph = _reference(model.name, results)
            return ScoreWork(
                model=model.name,
                reference=reference,
                graph=graph,
                candidates=_merged(model.name, results).candidates,
                data=data_of(spec, detail, results),
                preprocess=model.preprocess,
                numerics=numerics_of(model, results),
            )
        case TaskKind.CORRECT:
            reference, graph = _reference(model.name, results)
            return CorrectWork(
                model=model.name,
                reference=reference,
                graph=graph,
                scales=scales_of(model, results),
                corrections=corrections_of(model.name, results) if detail.stage else None,
                runtimes=corrected_runtimes(model),
                stage=detail.stage,
                data=data_of(spec, detail, results),
                preprocess=model.preprocess,
                numerics=numerics_of(model, results),
            )
        case TaskKind.TRAIN:
            return _train(model, detail, results)
        case TaskKind.QUANTIZE:
            static = detail.quantization == "static"
            return QuantizeWork(
                model=model.name,
                runtime=detail.runtime,
                quantization=detail.quantization,
                format=model.format,
                files=model.files,
                reference=_reference(model.name, results)[0],
                scales=scales_of(model, results) if static else None,
                preprocess=model.preprocess,
                corrections=corrections_of(model.name, results) if static else None,
            )
        case TaskKind.BENCHMARK:
            target = model.targets[detail.target]
            keys = measurable(model, ENGINES[detail.engine], target.precisions)
            made = {key: _variant(model, detail.runtime, key, results) for key in keys}
            return BenchmarkWork(
                model=model.name,
                engine=detail.engine,
                variants=tuple(variant for variant in made.values() if variant),
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
                absent=tuple(
                    Absence(key.precision, key.quantization, "", 0, 0, NOT_MADE, applicable=True)
                    for key, variant in made.items()
                    if variant is None
                ),
            )
        case TaskKind.EVALUATE:
            assert model.evaluate is not None
            variant = _variant(model, detail.runtime, VariantKey(detail.precision, detail.quantization), results)
            assert variant is not None
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
        case TaskKind.CORRECT if model.calibration and model.calibration.scales:
            assert model.calibration.data is not None
            manifest, samples = model.calibration.data.manifest, model.calibration.data.samples
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
    assert numerics is not None
    if model.calibration and model.calibration.mixed:
        numerics = replace(numerics, isa=MIXED)
    if model.calibration and model.calibration.extremes_only:
        numerics = replace(numerics, statistic_version=EXTREMES_VERSION)
    return numerics


def scales_of(model: ModelSpec, results: Mapping[str, Result]) -> FileRef:
    """The model's scale table: that which the job brings, or the chosen one where several were candidates."""
    if model.calibration and model.calibration.scales:
        return model.calibration.scales
    chosen = results.get(f"{model.name}/choose")
    return chosen.scales if isinstance(chosen, ChooseResult) else _merged(model.name, results).scales


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
    source = next(reversed(model.data_sets()), None)
    return Slice(source.manifest, 0, min(SAMPLES_FOR_LATENCY, source.samples)) if source else None


def _train(model: ModelSpec, detail: Detail, results: Mapping[str, Result]) -> TrainWork:
    training = model.training(detail.quantization)
    before = results.get(f"{model.name}/train/{detail.quantization}/{detail.stage - 1}")
    assert isinstance(before, TrainResult) or detail.stage == 0
    judged = model.evaluate if training.validate else None
    return TrainWork(
        model=model.name,
        format=model.format,
        files=model.files,
        input_shapes=_inspected(model.name, results).input_shapes,
        preprocess=model.preprocess,
        training=training,
        interval=detail.stage,
        checkpoint=before.checkpoint if isinstance(before, TrainResult) else training.resume,
        best=before.best if isinstance(before, TrainResult) else None,
        data=Slice(training.data.manifest, 0, training.data.samples),
        validation=Validation(
            data=Slice(judged.data.manifest, 0, judged.data.samples),
            kind=kind_of(judged.metrics),
            annotations=judged.data.annotations,
            metric=judged.metrics[0],
        )
        if judged
        else None,
    )


def _variant(model: ModelSpec, runtime: str, key: VariantKey, results: Mapping[str, Result]) -> Variant | None:
    """A variant as its makers left it; None where they failed."""
    forms = _forms(model, runtime, key, results)
    return Variant(key.precision, key.quantization, forms) if forms else None


def _forms(
    model: ModelSpec, runtime: str, key: VariantKey, results: Mapping[str, Result]
) -> tuple[ModelForm, ...] | None:
    if key.quantization == "given":
        return (ModelForm("", model.given.files if model.given else model.files),)
    if key.quantization in TRAINED:
        last = model.training(key.quantization).intervals - 1
        trained = results.get(f"{model.name}/train/{key.quantization}/{last}")
        return trained.best.forms(runtime) if isinstance(trained, TrainResult) else None
    if key.precision == "int8":
        suffix = "/dynamic" if key.quantization == "dynamic" else ""
        quantized = results.get(f"{model.name}/quantize/{runtime}{suffix}")
        return quantized.forms if isinstance(quantized, QuantizeResult) else None
    # A shape that the job gives may not be the file's own: the reference graph has it.
    if runtime == "onnx" and (model.format != "onnx" or model.input_shapes):
        return (ModelForm("", (_reference(model.name, results)[0],)),)
    return (ModelForm("", model.files),)


def _reference(model: str, results: Mapping[str, Result]) -> tuple[FileRef, FileRef]:
    """The reference graph of a model that is not quantized, and what calibration knows of it."""
    found = _inspected(model, results)
    assert found.reference is not None
    assert found.graph is not None
    return found.reference, found.graph


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
        case TrainWork():
            training, validation = work_.training, work_.validation
            found = [*work_.files, work_.preprocess, work_.checkpoint, work_.data.manifest]
            found += [training.config, training.weights]
            found += [validation.data.manifest, validation.annotations] if validation else []
        case QuantizeWork():
            found = [*work_.files, work_.reference, work_.scales, work_.corrections, work_.preprocess]
        case BenchmarkWork():
            found = [ref for v in work_.variants for form in v.forms for ref in form.files]
            found += [work_.data.manifest if work_.data else None, work_.preprocess]
        case EvaluateWork():
            found = [ref for form in work_.variant.forms for ref in form.files]
            found += [work_.data.manifest, work_.preprocess, work_.annotations]
    return tuple(ref for ref in found if ref is not None)


def slices_of(work_: Work) -> tuple[Slice, ...]:
    """The samples that a task reads, if any: first those that it is about."""
    if isinstance(work_, TrainWork):
        return (work_.data, work_.validation.data) if work_.validation else (work_.data,)
    if isinstance(work_, InspectWork | QuantizeWork) or work_.data is None:
        return ()
    return (work_.data,)
