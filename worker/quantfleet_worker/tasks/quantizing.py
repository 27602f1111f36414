"""The task `quantize`: from a scale table, or the weights alone, to every form that a runtime's engines may prefer."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

from quantfleet_domain.calibration import tensorrt_cache
from quantfleet_domain.calibration.correction import Corrections
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.calibration.tensorrt_cache import CalibrationCache
from quantfleet_domain.jobs.spec import FileRef, model_sha256
from quantfleet_domain.jobs.task_results import QuantizeResult
from quantfleet_domain.jobs.work import (
    ModelForm,
    QuantizeWork,
)
from quantfleet_worker.execution.child import Report
from quantfleet_worker.quantizers import onnx_dynamic, onnx_qdq, paddle_lite, paddle_onednn, paddle_tensorrt
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.workspace import Workspace


def quantize(work: QuantizeWork, workspace: Workspace, here: Surroundings, report: Report) -> QuantizeResult:  # noqa: ARG001 - one signature for all tasks
    """Raises SCALES_INVALID, MODEL_UNREADABLE, MODEL_UNSUPPORTED."""
    if work.scales is None:
        forms = [_weights_of_opt(work)] if work.runtime == _LITE else _dynamic(work, workspace)
    else:
        table = ScaleTable.from_json(workspace.read(work.scales))
        table.require_model(model_sha256(work.files), work.model)
        corrections = Corrections.from_json(workspace.read(work.corrections)) if work.corrections else None
        forms = _WRITERS[work.runtime](work, table, corrections, workspace, report)
    return QuantizeResult(work.runtime, tuple(forms), ())


def _dynamic(work: QuantizeWork, workspace: Workspace) -> list[ModelForm]:
    out = workspace.scratch("dynamic.onnx")
    onnx_dynamic.quantize(_reference(work, workspace), out)
    return [_onnx_form(onnx_dynamic.FORM, out, work, workspace)]


def _onnx(
    work: QuantizeWork, table: ScaleTable, corrections: Corrections | None, workspace: Workspace, report: Report
) -> list[ModelForm]:
    reference = _reference(work, workspace)
    forms = []
    for index, form in enumerate(onnx_qdq.FORMS):
        report(index / len(onnx_qdq.FORMS), f"writing {form}")
        out = workspace.scratch(f"{form}.onnx")
        onnx_qdq.quantize(reference, table, form, out, corrections.of(form) if corrections else None)
        forms.append(_onnx_form(form, out, work, workspace))
    return forms


def _tensorrt(
    work: QuantizeWork, table: ScaleTable, corrections: Corrections | None, workspace: Workspace, report: Report
) -> list[ModelForm]:
    reference = _reference(work, workspace)
    report(0.0, f"writing {onnx_qdq.SYMMETRIC}")
    out = workspace.scratch("symmetric.onnx")
    onnx_qdq.quantize(
        reference, table, onnx_qdq.SYMMETRIC, out, corrections.of(onnx_qdq.SYMMETRIC) if corrections else None
    )
    # A cache is of one version of TensorRT: the engine that reads it puts its own there.
    cache = CalibrationCache.of_thresholds("0", tensorrt_cache.KIND, onnx_qdq.magnitudes(reference, table))
    kept = workspace.keep(tensorrt_cache.FILE, cache.to_text())
    floating = ModelForm("cache", (work.reference, kept, *_configuration(work)))
    return [_onnx_form(onnx_qdq.SYMMETRIC, out, work, workspace), floating]


def _paddle(
    quantizer: ModuleType,
    work: QuantizeWork,
    table: ScaleTable,
    corrections: Corrections | None,
    workspace: Workspace,
    report: Report,
) -> list[ModelForm]:
    model = workspace.bundle("model", work.files)
    forms = []
    for index, form in enumerate(quantizer.FORMS):
        report(index / len(quantizer.FORMS), f"writing {form}")
        out = workspace.scratch(form)
        quantizer.quantize(model, table, form, out, corrections.of(form) if corrections else None)
        forms.append(ModelForm(form, (*_kept(out, workspace), *_configuration(work))))
    return forms


def _paddle_lite(
    work: QuantizeWork, table: ScaleTable, corrections: Corrections | None, workspace: Workspace, report: Report
) -> list[ModelForm]:
    report(0.0, f"writing {paddle_lite.FORM}")
    out = workspace.scratch(paddle_lite.FORM)
    model = workspace.bundle("model", work.files)
    paddle_lite.quantize(model, table, out, corrections.of(paddle_lite.FORM) if corrections else None)
    return [ModelForm(paddle_lite.FORM, (*_kept(out, workspace), *_configuration(work)))]


def _weights_of_opt(work: QuantizeWork) -> ModelForm:
    """Paddle Lite's opt itself stores the weights of the float model as integers when it converts it."""
    return ModelForm(onnx_dynamic.FORM, (*work.files, *_configuration(work)))


_LITE = "paddle-lite"
_Writer = Callable[[QuantizeWork, ScaleTable, Corrections | None, Workspace, Report], list[ModelForm]]
_WRITERS: dict[str, _Writer] = {
    "onnx": _onnx,
    "tensorrt": _tensorrt,
    "paddle": partial(_paddle, paddle_onednn),
    "paddle-tensorrt": partial(_paddle, paddle_tensorrt),
    _LITE: _paddle_lite,
}


def _reference(work: QuantizeWork, workspace: Workspace) -> Path:
    return workspace.bundle("reference", [work.reference]) / work.reference.name


def _onnx_form(form: str, path: Path, work: QuantizeWork, workspace: Workspace) -> ModelForm:
    return ModelForm(form, (workspace.keep("model.onnx", path.read_bytes()), *_configuration(work)))


def _kept(directory: Path, workspace: Workspace) -> list[FileRef]:
    return [workspace.keep(path.name, path.read_bytes()) for path in sorted(directory.iterdir())]


def _configuration(work: QuantizeWork) -> tuple[FileRef, ...]:
    """The model's own preprocessing file travels with it."""
    return (work.preprocess,) if work.preprocess else ()
