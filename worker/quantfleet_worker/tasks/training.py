"""The task `train`: one interval of a training, from one checkpoint to the next, and the INT8 model that it leaves."""

import time
from dataclasses import dataclass
from pathlib import Path

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.spec import FileRef
from quantfleet_domain.jobs.task_results import (
    LossPoint,
    TrainResult,
)
from quantfleet_domain.jobs.work import (
    ModelForm,
    RuntimeForms,
    TrainedForm,
    TrainWork,
    Validation,
    Variant,
)
from quantfleet_domain.reporting.accuracy import figure
from quantfleet_worker.engines.base import LoadOptions
from quantfleet_worker.engines.registry import engine_named
from quantfleet_worker.execution.child import Report
from quantfleet_worker.models.paddle_files import find_files, read_signature
from quantfleet_worker.quantizers import onnx_qdq, paddle_lite, paddle_onednn, paddle_tensorrt
from quantfleet_worker.tasks.feeding import feeder, inputs_of
from quantfleet_worker.tasks.judging import judge
from quantfleet_worker.tasks.loading import load_variant
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.training_samples import Pictures, Tensors
from quantfleet_worker.tasks.workspace import Workspace
from quantfleet_worker.training import act_config
from quantfleet_worker.training.checkpoint import Checkpoint
from quantfleet_worker.training.distillation import Distiller
from quantfleet_worker.training.export import Export
from quantfleet_worker.training.interval import Interval
from quantfleet_worker.training.qat import QatTrainer
from quantfleet_worker.training.recipe import load_recipe

_JUDGE = "paddle-cpu"
"""The engine on which checkpoints are compared."""
_JUDGES_RUNTIME = "paddle"
_TRAINING_SHARE = 0.8
"""Which part of the task is training, for its progress; the rest is export and validation."""


def train(work: TrainWork, workspace: Workspace, here: Surroundings, report: Report) -> TrainResult:
    """Train from the checkpoint to the end of the interval; a checkpoint that is beyond it already is only exported.

    Raises QuantfleetError: CODE_NOT_ALLOWED, ENGINE_MISSING, MODEL_UNREADABLE, MODEL_UNSUPPORTED, JOB_INVALID for the
    configuration, DATA_EMPTY where the data ends early, SAMPLE_UNREADABLE, ENGINE_FAILED for a loss that is not finite
    or an exception in the user's code.
    """
    started, training = time.monotonic(), work.training
    checkpoint = workspace.read(work.checkpoint) if work.checkpoint else None
    done = Checkpoint.iterations(checkpoint) if checkpoint else 0
    last = min((work.interval + 1) * training.save_interval, training.iterations)

    def advance(share: float, line: str) -> None:
        report(share * _TRAINING_SHARE, line)

    trainer = _qat(work, workspace, here) if training.method == "qat" else _distiller(work, workspace)
    made = trainer.interval(checkpoint, done, last - done, advance) if last > done else Interval(checkpoint or b"", ())
    report(_TRAINING_SHARE, "exporting")
    forms = _written(trainer.export(made.checkpoint), work, workspace)
    value = None
    if work.validation:
        report(_TRAINING_SHARE, "validating")
        value = _validated(work, work.validation, forms, workspace, here)
    latest = TrainedForm(max(last, done), value, tuple(made for made in forms if made.runtime in work.runtimes))
    return TrainResult(
        method=training.method,
        iterations=latest.iteration,
        checkpoint=workspace.keep("checkpoint", made.checkpoint),
        losses=tuple(
            LossPoint(iteration, loss)
            for iteration, loss in made.losses
            if iteration % training.log_interval == 0 or iteration == last
        ),
        metric=work.validation.metric if work.validation else "",
        value=value,
        best=_better(work.best, latest),
        seconds=time.monotonic() - started,
    )


def _better(best: TrainedForm | None, latest: TrainedForm) -> TrainedForm:
    """The later of equals, and of models that were not validated."""
    if best is None or best.value is None or latest.value is None:
        return latest
    return latest if latest.value >= best.value else best


def _written(export: Export, work: TrainWork, workspace: Workspace) -> tuple[RuntimeForms, ...]:
    """The forms of the runtimes that the job needs, and of that on which checkpoints are compared."""
    runtimes = sorted({*work.runtimes, *((_JUDGES_RUNTIME,) if work.validation else ())})
    configuration = (work.preprocess,) if work.preprocess else ()
    made = []
    for runtime in runtimes:
        forms, write = _WRITERS[runtime]
        made.append(
            RuntimeForms(
                runtime, tuple(ModelForm(form, (*write(export, form, workspace), *configuration)) for form in forms)
            )
        )
    return tuple(made)


def _paddle(export: Export, form: str, workspace: Workspace) -> list[FileRef]:
    out = workspace.scratch(form)
    export.paddle(form, out)
    return [workspace.keep(path.name, path.read_bytes()) for path in sorted(out.iterdir())]


def _paddle_lite(export: Export, form: str, workspace: Workspace) -> list[FileRef]:
    out = workspace.scratch(form)
    export.paddle_lite(out)
    return [workspace.keep(path.name, path.read_bytes()) for path in sorted(out.iterdir())]


def _paddle_tensorrt(export: Export, form: str, workspace: Workspace) -> list[FileRef]:
    out = workspace.scratch(f"tensorrt-{form}")
    export.paddle_tensorrt(form, out)
    return [workspace.keep(path.name, path.read_bytes()) for path in sorted(out.iterdir())]


def _onnx(export: Export, form: str, workspace: Workspace) -> list[FileRef]:
    path = workspace.scratch(f"{form}.onnx")
    export.onnx(form, path)
    return [workspace.keep("model.onnx", path.read_bytes())]


_WRITERS = {
    "onnx": (onnx_qdq.FORMS, _onnx),
    "tensorrt": ((onnx_qdq.SYMMETRIC,), _onnx),
    "paddle": (paddle_onednn.FORMS, _paddle),
    "paddle-lite": ((paddle_lite.FORM,), _paddle_lite),
    "paddle-tensorrt": (paddle_tensorrt.FORMS, _paddle_tensorrt),
}


def _validated(
    work: TrainWork,
    validation: Validation,
    forms: tuple[RuntimeForms, ...],
    workspace: Workspace,
    here: Surroundings,
) -> float:
    """The metric, in percent, of the INT8 model as the engine really runs it."""
    paddle = next(item.forms for item in forms if item.runtime == _JUDGES_RUNTIME)
    variant = Variant("int8", work.training.method, _without_configuration(paddle, work))
    options = LoadOptions("int8", threads=1)
    _, session = load_variant(engine_named(_JUDGE), variant, options, workspace.outputs(), here)
    feed = feeder(workspace, inputs_of(session, work.input_shapes), work.preprocess)
    judged = judge(validation.kind, validation.annotations, workspace, feed)
    for _, sample, content in workspace.samples(validation.data):
        prepared = feed.prepare(content, sample.name)
        judged.add(sample, session.run(prepared.feeds), prepared.geometry)
    return figure(validation.metric, judged.outcome())


def _without_configuration(forms: tuple[ModelForm, ...], work: TrainWork) -> tuple[ModelForm, ...]:
    """The forms without the model's own configuration, which is no output of this task."""
    return tuple(ModelForm(form.form, tuple(ref for ref in form.files if ref != work.preprocess)) for form in forms)


@dataclass(frozen=True)
class _Qat:
    trainer: QatTrainer
    samples: Pictures
    folder: Path

    def interval(self, checkpoint: bytes | None, first: int, count: int, report: Report) -> Interval:
        return self.trainer.interval(checkpoint, first, count, self.samples, report)

    def export(self, checkpoint: bytes) -> Export:
        return self.trainer.export(checkpoint, self.samples, self.folder)


@dataclass(frozen=True)
class _Distillation:
    trainer: Distiller
    samples: Tensors
    folder: Path

    def interval(self, checkpoint: bytes | None, first: int, count: int, report: Report) -> Interval:
        return self.trainer.interval(checkpoint, first, count, self.samples, report)

    def export(self, checkpoint: bytes) -> Export:
        return self.trainer.export(checkpoint, self.samples, self.folder)


def _qat(work: TrainWork, workspace: Workspace, here: Surroundings) -> _Qat:
    training = work.training
    config = workspace.read(training.config).decode(errors="replace") if training.config else ""
    loaded = load_recipe(training.package, config, frozenset(here.allowed_code))
    if training.weights is None:
        what = f"the qat of {work.model} names no weights to start from"
        raise QuantfleetError(ErrorCode.JOB_INVALID, what, "give `model_path:`, a .pdparams of the FP32 network")
    trainer = QatTrainer(
        loaded,
        workspace.bundle("weights", [training.weights]) / training.weights.name,
        iters=training.iterations,
        batch_size=training.batch_size or loaded.recipe.batch_size,
        learning_rate=training.learning_rate or loaded.recipe.learning_rate,
        num_workers=training.workers,
        log_iters=training.log_interval,
        with_softmax=training.with_softmax,
        without_argmax=training.without_argmax,
    )
    return _Qat(trainer, Pictures(workspace, work.data), workspace.scratch("float"))


def _distiller(work: TrainWork, workspace: Workspace) -> _Distillation:
    training = work.training
    assert training.config is not None
    model = workspace.bundle("teacher", work.files)
    config = act_config.parse(workspace.read(training.config).decode(errors="replace"))
    dtypes = {name: dtype.name for name, (_, dtype) in read_signature(find_files(model)).inputs.items()}
    inputs = tuple(InputTensor(shape.name, shape.dims, dtypes[shape.name]) for shape in work.input_shapes)
    feed = feeder(workspace, inputs, work.preprocess)
    trainer = Distiller(model, config, training.batch_size or 1, training.workers)
    return _Distillation(trainer, Tensors(workspace, work.data, feed), workspace.scratch("float"))
