"""Writes the FP16 copy of an ONNX file, of a float model or a QDQ one. Not for choosing what stays in FP32.

onnxconverter-common converts: it leaves inputs and outputs in FP32 and the graph in order. (The module of the same
origin in onnxruntime.transformers, 1.31, leaves the graph unsorted, which the ONNX checker and hence TensorRT refuse.)
The scales of QuantizeLinear and DequantizeLinear become FP16 with their tensors, for which ONNX has a type from opset
19 on; so a QDQ model is brought there first. An FP16 scale is off by up to 2⁻¹¹, half a step in a thousand.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, numpy_helper

from quantfleet_domain.errors import ErrorCode, QuantfleetError

_HALF_SCALES = 19
_SMALLEST = float(np.finfo(np.float16).smallest_normal)
_LARGEST = float(np.finfo(np.float16).max)


def converted(model: Path, folder: Path) -> Path:
    """The FP16 copy of `model`, in `folder`; its inputs and outputs stay as they are.

    Raises QuantfleetError(MODEL_UNSUPPORTED) for a model that cannot be brought to opset 19, or has an activation whose
    scale is no normal FP16 number, and ENGINE_MISSING without onnxconverter-common.
    """
    content = onnx.load(model)
    quantized = [node for node in content.graph.node if node.op_type == "QuantizeLinear"]
    if quantized:
        _check_scales(content.graph, model)
        content = _at_opset(content, model)
    try:
        from onnxconverter_common import float16
    except ImportError as error:
        raise QuantfleetError(
            ErrorCode.ENGINE_MISSING,
            f"onnxconverter-common does not load here: {error}",
            "pip install onnxconverter-common",
        ) from error
    half = float16.convert_float_to_float16(content, keep_io_types=True)
    out = folder / "half.onnx"
    onnx.save(half, out, save_as_external_data=True, location="half.data")
    return out


def _check_scales(graph: GraphProto, model: Path) -> None:
    constants = {item.name: item for item in graph.initializer}
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or node.input[1] not in constants:
            continue
        scales = numpy_helper.to_array(constants[node.input[1]])
        if not np.all((scales >= _SMALLEST) & (scales <= _LARGEST)):
            raise QuantfleetError(
                ErrorCode.MODEL_UNSUPPORTED,
                f"{model.name} cannot be had in FP16: the scale of {node.input[0]!r} is {float(scales.min()):.3g}, and "
                f"normal FP16 numbers lie between {_SMALLEST:.3g} and {_LARGEST:.0f}",
                "drop int8+fp16 from the target's precisions",
            )


def _at_opset(content: ModelProto, model: Path) -> ModelProto:
    opset = next((item.version for item in content.opset_import if item.domain in ("", "ai.onnx")), 0)
    if opset >= _HALF_SCALES:
        return content
    try:
        return onnx.version_converter.convert_version(content, _HALF_SCALES)
    except Exception as error:  # the converter raises RuntimeError and, for some operators, bare exceptions of its own
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"{model.name} is of opset {opset}; FP16 scales need {_HALF_SCALES}, and ONNX cannot convert it: {error}",
            f"export the model with opset {_HALF_SCALES} or newer",
        ) from error
