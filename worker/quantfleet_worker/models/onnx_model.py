"""Inspects a submitted ONNX model: its reference graph and what calibration must observe on it. Not for running it."""

import json
from collections.abc import Mapping
from hashlib import sha256
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from quantfleet_domain.calibration.graph import CalibrationGraph, WeightTensor
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker import onnxruntime_library

from ..quantizers.qdq_plan import quantized_tensors
from . import onnx_file
from .onnx_fold import fold, join_products
from .onnx_layers import layers
from .onnx_shapes import settle_inputs
from .onnx_ties import ties
from .reference_session import SESSION_OPTIONS

_REVISION = 1  # counts up whenever a change here or in `onnx_fold` can move a bit of a reference graph's weights
MINIMUM_OPSET = 13
"""The first operator set with scales per channel in QuantizeLinear and DequantizeLinear."""


def inspect(
    path: Path, input_shapes: Mapping[str, tuple[int, ...]], converter: str = ""
) -> tuple[bytes, CalibrationGraph]:
    """The reference graph of the model in `path`, as a serialized ONNX model, and what calibration needs of it.

    `input_shapes` gives, by input, the shape with the batch axis first where the model leaves an axis open. The bytes
    depend on the model and these shapes alone. `converter` names what made the ONNX model, with its versions,
    where that was not the user.

    Raises QuantfleetError: MODEL_NOT_FOUND, MODEL_UNREADABLE, MODEL_UNSUPPORTED, SHAPE_MISSING, JOB_INVALID.
    """
    model = onnx_file.load(path)
    inputs = settle_inputs(model, input_shapes)
    model = _upgraded(model, path)
    fold(model.graph, _opset(model))
    _name_nodes(model)
    model = _with_types(model, path)
    if join_products(model.graph):
        model = _with_types(model, path)
    activations, slots = quantized_tensors(model)
    if not slots:
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"model {path} has nothing to quantize: no Conv, Gemm or MatMul with constant float32 weights",
            "quantize a model whose weights are stored in it as float32",
        )
    weights = tuple(WeightTensor(slot.name, slot.axis, _absmax(slot.values, slot.axis)) for slot in slots)
    graph = CalibrationGraph(
        inputs=inputs,
        outputs=tuple(item.name for item in model.graph.output),
        activations=activations,
        weights=weights,
        native_names={name: name for name in activations},
        native_weights={weight.name: weight.name for weight in weights},
        unmapped=(),
        layers=layers(model.graph, frozenset(weight.name for weight in weights)),
        ties=ties(model.graph, activations),
        recipe=recipe(activations, converter),
    )
    reference = model.SerializeToString(deterministic=True)
    _try_to_load(reference, path)
    return reference, graph


def recipe(activations: tuple[str, ...], converter: str) -> str:
    """The SHA-256 of what decides the bits of the reference run besides model, engine and ISA.

    The reference graph's weights are folded, and perhaps converted, before it runs: by what, is a part of it.
    """
    made_by = f"graph-{_REVISION} onnx-{metadata.version('onnx')} {converter}".strip()
    document = {"tensors": list(activations), "session": dict(SESSION_OPTIONS), "graph": made_by}
    return sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _opset(model: ModelProto) -> int:
    return next(int(item.version) for item in model.opset_import if item.domain in ("", "ai.onnx"))


def _upgraded(model: ModelProto, path: Path) -> ModelProto:
    versions = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    if versions and versions[0] >= MINIMUM_OPSET:
        return model
    try:
        upgraded: ModelProto = onnx.version_converter.convert_version(model, MINIMUM_OPSET)
    except Exception as error:  # the converter raises whatever its C++ part meets
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"model {path} uses operator set {versions[0] if versions else 'none'}, which cannot be raised to "
            f"{MINIMUM_OPSET} ({str(error).splitlines()[0]})",
            f"export the model with operator set {MINIMUM_OPSET} or newer",
        ) from error
    return upgraded


def _name_nodes(model: ModelProto) -> None:
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{index}_{node.output[0]}"
        taken.add(node.name)


def _with_types(model: ModelProto, path: Path) -> ModelProto:
    del model.graph.value_info[:]
    try:
        inferred: ModelProto = onnx.shape_inference.infer_shapes(model, check_type=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise QuantfleetError(
            ErrorCode.MODEL_UNREADABLE, f"model {path}: {str(error).splitlines()[0]}", "export the model again"
        ) from error
    return inferred


def _try_to_load(reference: bytes, path: Path) -> None:
    """Find out now, and not in every calibration task, what the ONNX checker lets pass and the engine does not."""
    ort = onnxruntime_library.load()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # what is wrong is raised
    try:
        ort.InferenceSession(reference, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class but Exception
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"onnxruntime, the reference engine, cannot load model {path}: {str(error).splitlines()[0]}",
            "check the model, and the input_shapes of the job where it gives some",
        ) from error


def _absmax(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], axis: int) -> tuple[float, ...]:
    rows = np.moveaxis(np.abs(values), axis, 0).reshape(values.shape[axis], -1)
    return tuple(float(peak) for peak in rows.max(axis=1))
