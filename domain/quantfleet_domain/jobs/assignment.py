"""From a task to what it asks of a worker, by the results of those that it needs. Not of a device (`requirements`)."""

from collections.abc import Mapping

from quantfleet_domain.hardware.offers import ENGINES
from quantfleet_domain.hardware.precisions import is_quantized
from quantfleet_domain.jobs.lifecycle import TaskKind
from quantfleet_domain.jobs.made import (
    corrections_of,
    inspected_of,
    merged_of,
    model_of,
    numerics_of,
    reference_of,
    scales_of,
)
from quantfleet_domain.jobs.plan import Detail, corrected_runtimes, native_task, runtimes_of, shard_of
from quantfleet_domain.jobs.spec import TRAINED, FileRef, JobSpec, ModelSpec, kind_of
from quantfleet_domain.jobs.task_results import (
    QuantizeResult,
    RecallResult,
    Result,
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
    NativeWork,
    QuantizeWork,
    ScoreWork,
    Slice,
    TrainWork,
    Validation,
    Variant,
    Work,
)

NOT_MADE = "its quantized model was not made: see the warnings"


def work(spec: JobSpec, detail: Detail, results: Mapping[str, Result]) -> Work:
    """What a worker is asked to do for this task, given the results (by task id) of the tasks that it needs."""
    model = model_of(spec, detail)
    match detail.kind:
        case TaskKind.INSPECT:
            return InspectWork(
                model.name, model.format, model.files, model.input_shapes, model.preprocess, model.quantized
            )
        case TaskKind.CALIBRATE:
            reference, graph = reference_of(model.name, results)
            data = data_of(spec, detail, results)
            numerics = numerics_of(model, results)
            return CalibrateWork(model.name, reference, graph, data, model.preprocess, numerics)
        case TaskKind.SCORE:
            reference, graph = reference_of(model.name, results)
            return ScoreWork(
                model=model.name,
                reference=reference,
                graph=graph,
                candidates=merged_of(model.name, results).candidates,
                data=data_of(spec, detail, results),
                preprocess=model.preprocess,
                numerics=numerics_of(model, results),
            )
        case TaskKind.CORRECT:
            reference, graph = reference_of(model.name, results)
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
        case TaskKind.QUANTIZE if detail.quantization == "native":
            assert model.calibration is not None
            assert model.calibration.data is not None
            samples = model.calibration.data
            return NativeWork(
                model=model.name,
                engine=detail.engine,
                runtime=detail.runtime,
                files=_float_files(model, detail.runtime, results),
                input_shapes=inspected_of(model.name, results).input_shapes,
                data=Slice(samples.manifest, 0, samples.samples),
                preprocess=model.preprocess,
            )
        case TaskKind.QUANTIZE:
            static = detail.quantization == "static"
            corrected = static and detail.runtime in corrected_runtimes(model)
            return QuantizeWork(
                model=model.name,
                runtime=detail.runtime,
                quantization=detail.quantization,
                format=model.format,
                files=model.files,
                reference=reference_of(model.name, results)[0],
                scales=scales_of(model, results) if static else None,
                preprocess=model.preprocess,
                corrections=corrections_of(model.name, results) if corrected else None,
            )
        case TaskKind.BENCHMARK:
            target = model.targets[detail.target]
            keys = measurable(model, ENGINES[detail.engine], target.precisions)
            made = {key: _variant(model, detail, key, results) for key in keys}
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
                input_shapes=inspected_of(model.name, results).input_shapes,
                data=_any_samples(model),
                preprocess=model.preprocess,
                kind=kind_of(model.evaluate.metrics) if model.evaluate else None,
                absent=tuple(
                    Absence(key.precision, key.quantization, "", 0, 0, NOT_MADE, applicable=True)
                    for key, variant in made.items()
                    if variant is None
                ),
                form=target.form,
            )
        case TaskKind.EVALUATE:
            assert model.evaluate is not None
            variant = _variant(model, detail, VariantKey(detail.precision, detail.quantization), results)
            assert variant is not None
            data = data_of(spec, detail, results)
            shapes = inspected_of(model.name, results).input_shapes
            return EvaluateWork(
                model=model.name,
                engine=detail.engine,
                variant=variant,
                input_shapes=shapes,
                data=data,
                preprocess=model.preprocess,
                kind=kind_of(model.evaluate.metrics),
                annotations=model.evaluate.data.annotations,
                form=model.targets[detail.target].form,
            )
        case TaskKind.RECALL | TaskKind.MERGE | TaskKind.CHOOSE | TaskKind.SETTLE | TaskKind.REPORT:
            raise AssertionError(f"{detail.kind} is done by the coordinator")


def data_of(spec: JobSpec, detail: Detail, results: Mapping[str, Result]) -> Slice:
    """The samples of a calibrate, score, correct or evaluate task; none where there are fewer samples than shards."""
    model = model_of(spec, detail)
    match detail.kind:
        case TaskKind.CALIBRATE:
            recalled = results[f"{model.name}/recall"]
            assert isinstance(recalled, RecallResult)
            manifest, samples = recalled.missing, recalled.samples
        case TaskKind.SCORE:
            merged = merged_of(model.name, results)
            manifest, samples = merged.held_back, merged.held_back_samples
        case TaskKind.CORRECT if model.calibration and model.calibration.scales:
            assert model.calibration.data is not None
            manifest, samples = model.calibration.data.manifest, model.calibration.data.samples
        case TaskKind.CORRECT:
            merged = merged_of(model.name, results)
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
        input_shapes=inspected_of(model.name, results).input_shapes,
        preprocess=model.preprocess,
        training=training,
        interval=detail.stage,
        checkpoint=before.checkpoint if isinstance(before, TrainResult) else training.resume,
        best=before.best if isinstance(before, TrainResult) else None,
        data=Slice(training.data.manifest, 0, training.data.samples),
        runtimes=runtimes_of(model, training.method),
        validation=Validation(
            data=Slice(judged.data.manifest, 0, judged.data.samples),
            kind=kind_of(judged.metrics),
            annotations=judged.data.annotations,
            metric=judged.metrics[0],
        )
        if judged
        else None,
    )


def _variant(model: ModelSpec, detail: Detail, key: VariantKey, results: Mapping[str, Result]) -> Variant | None:
    """A variant for the engine of a detail as its makers left it; None where they failed."""
    forms = _forms(model, detail, key, results)
    return Variant(key.precision, key.quantization, forms) if forms else None


def _forms(
    model: ModelSpec, detail: Detail, key: VariantKey, results: Mapping[str, Result]
) -> tuple[ModelForm, ...] | None:
    runtime = detail.runtime
    if key.quantization == "given":
        return (ModelForm("", model.given.files if model.given else model.files),)
    if key.quantization in TRAINED:
        last = model.training(key.quantization).intervals - 1
        trained = results.get(f"{model.name}/train/{key.quantization}/{last}")
        return trained.best.forms(runtime) if isinstance(trained, TrainResult) else None
    if is_quantized(key.precision):
        suffix = "/dynamic" if key.quantization == "dynamic" else ""
        native = key.quantization == "native"
        quantized = results.get(native_task(detail) if native else f"{model.name}/quantize/{runtime}{suffix}")
        return quantized.forms if isinstance(quantized, QuantizeResult) else None
    return (ModelForm("", _float_files(model, runtime, results)),)


def _float_files(model: ModelSpec, runtime: str, results: Mapping[str, Result]) -> tuple[FileRef, ...]:
    """The files of the model as it was before it was quantized."""
    # A shape that the job gives may not be the file's own: the reference graph has it.
    if runtime in ("onnx", "tensorrt") and (model.format != "onnx" or model.input_shapes):
        return (reference_of(model.name, results)[0],)
    return model.files


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
        case NativeWork():
            found = [*work_.files, work_.data.manifest, work_.preprocess]
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
