"""The task `inspect`: check a model, make its reference graph, settle the numerics class.

A model that is quantized already has no reference graph: what it takes is asked of an engine that loads it, or is read
in its file where that engine is on a phone.
"""

from collections.abc import Mapping
from pathlib import Path

from quantfleet_domain.calibration.graph import InputTensor, NumericsClass
from quantfleet_domain.calibration.statistic import STATISTIC_VERSION
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.offers import REFERENCE_ENGINE
from quantfleet_domain.jobs.spec import InputShape, model_sha256
from quantfleet_domain.jobs.task_results import InspectResult
from quantfleet_domain.jobs.work import InspectWork
from quantfleet_worker.engines.base import LoadOptions
from quantfleet_worker.engines.registry import engine_named
from quantfleet_worker.execution.child import Report
from quantfleet_worker.models import onnx_model, paddle_model
from quantfleet_worker.models.reference_session import engine_version
from quantfleet_worker.phones.nb_file import TARGET, read_given
from quantfleet_worker.tasks.feeding import feeder, preprocessing_class
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.workspace import Workspace, entry_point

_LOADERS = {"onnx": "onnxruntime-cpu", "paddle": "paddle-cpu"}
"""Which engine says what a quantized model of a format takes."""


def inspect(work: InspectWork, workspace: Workspace, here: Surroundings, report: Report) -> InspectResult:
    """Raises MODEL_NOT_FOUND, MODEL_UNREADABLE, MODEL_UNSUPPORTED, SHAPE_MISSING, JOB_INVALID, PREPROCESS_INVALID."""
    report(0.0, f"reading {work.model}")
    path = entry_point(workspace.bundle("model", work.files), work.files)
    shapes = {shape.name: shape.dims for shape in work.input_shapes}
    if work.quantized:
        return _quantized(work, path, shapes, workspace)
    read = onnx_model.inspect if work.format == "onnx" else paddle_model.inspect
    reference, graph = read(path, shapes)
    feeder(workspace, graph.inputs, work.preprocess)
    model = workspace.keep("reference.onnx", reference)
    numerics = NumericsClass(
        engine=REFERENCE_ENGINE,
        engine_version=engine_version(),
        isa=here.numerics_isa,
        model=model_sha256(work.files),
        recipe=graph.recipe,
        preprocessing=preprocessing_class(work.preprocess),
        statistic_version=STATISTIC_VERSION,
    )
    warnings: tuple[str, ...] = ()
    if graph.unmapped:
        names = ", ".join(graph.unmapped[:3])
        warnings = (f"{len(graph.unmapped)} activation(s) have no counterpart in the submitted model, such as {names}",)
    return InspectResult(
        reference=model,
        graph=workspace.keep("graph.json", graph.to_json()),
        numerics=numerics,
        input_shapes=tuple(InputShape(item.name, item.shape) for item in graph.inputs),
        warnings=warnings,
    )


def _quantized(
    work: InspectWork, path: Path, shapes: Mapping[str, tuple[int, ...]], workspace: Workspace
) -> InspectResult:
    if work.format in _LOADERS:
        known = engine_named(_LOADERS[work.format]).load(path, LoadOptions("int8", threads=1)).inputs
    else:
        known = read_given(path.read_bytes(), path.name, TARGET).inputs
    inputs = []
    for name, (declared, dtype) in known.items():
        shape = shapes.get(name, (1, *declared[1:]))
        if any(extent is None for extent in shape):
            raise QuantfleetError(
                ErrorCode.SHAPE_MISSING,
                f"input {name} of model {work.model} is {list(declared)}: a dimension besides the batch is open",
                f"give its shape, e.g. input_shapes: {{{name}: [1, 3, 224, 224]}}",
            )
        inputs.append(InputTensor(name, tuple(extent or 1 for extent in shape), str(dtype)))
    feeder(workspace, tuple(inputs), work.preprocess)
    found = tuple(InputShape(item.name, item.shape) for item in inputs)
    return InspectResult(reference=None, graph=None, numerics=None, input_shapes=found, warnings=())
