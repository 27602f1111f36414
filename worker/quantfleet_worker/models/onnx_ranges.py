"""The activation ranges that a QDQ model was quantized with. Not for weights, nor for models without QuantizeLinear."""

import numpy as np
from onnx import ModelProto, numpy_helper

_INPUT_SUFFIX = "_QuantizeLinear_Input"
"""What onnxruntime's quantizer calls a tensor of which both the float and the quantized form are read."""
_CODES = {np.dtype(np.uint8): (0, 255), np.dtype(np.int8): (-127, 127)}


def qdq_ranges(model: ModelProto) -> dict[str, tuple[float, float]]:
    """The real numbers that the smallest and the largest code stand for, by activation of 8 bits with one scale.

    real = scale · (code − zero point), as ONNX defines DequantizeLinear; the smallest s8 code is −127, as in symmetric
    quantization.
    """
    constants = {item.name: item for item in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] in constants or node.input[1] not in constants:
            continue
        scale = numpy_helper.to_array(constants[node.input[1]])
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        point = numpy_helper.to_array(zero) if zero is not None else np.uint8(0)
        if scale.size != 1 or point.dtype not in _CODES:
            continue
        step, offset = float(scale.reshape(-1)[0]), int(np.reshape(point, -1)[0])
        smallest, largest = _CODES[point.dtype]
        name = node.input[0].removesuffix(_INPUT_SUFFIX)
        found[name] = (step * (smallest - offset), step * (largest - offset))
    return found
