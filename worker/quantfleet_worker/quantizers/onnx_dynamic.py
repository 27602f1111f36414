"""Writes a dynamically quantized ONNX model from the reference graph. Not for static INT8: see `onnx_qdq`.

Weights are integers in the file; the scale of an activation is found at every run, so no calibration is needed. Each
operator gets what ONNX Runtime computes best: matrix products s8 weights per channel, convolutions u8 ones with zero
point 128 (its ConvInteger is four to five times slower with s8), per channel too, which onnxruntime's own quantizer
does not do. Grouped convolutions stay in float: ConvInteger takes a multiple of their time in float.
"""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from quantfleet_domain.calibration.forms import weight_scales
from quantfleet_domain.errors import ErrorCode, QuantfleetError

from .metadata import FLOAT_KEY, FORM_KEY
from .onnx_qdq import QuantizedModel
from .qdq_plan import WEIGHTED

FORM = "dynamic"

_ZERO_POINT = 128
_GROUPED = "a grouped convolution, which onnxruntime computes faster in float than in integers"
_NO_DYNAMIC_FORM = "onnxruntime has no dynamic form of it with these attributes"


def quantize(reference: Path, out: Path) -> QuantizedModel:
    """Write the dynamically quantized model of `reference`, an FP32 ONNX file whose nodes have names, to `out`.

    The same reference gives the same bytes. Raises QuantfleetError(MODEL_UNSUPPORTED) where nothing can be quantized.
    """
    model = onnx.load(reference)
    weights = {item.name: item for item in model.graph.initializer if item.data_type == TensorProto.FLOAT}
    products = [node for node in model.graph.node if node.op_type in WEIGHTED and node.input[1] in weights]
    grouped = [node.name for node in products if _groups(node) > 1]
    add_pre_process_metadata(model)  # the reference is folded and its shapes are inferred: no advice to do so is due
    quantize_dynamic(
        model,
        out,
        op_types_to_quantize=["Conv", "MatMul"],  # it splits a Gemm into MatMul and Add first
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=grouped,
    )
    quantized = onnx.load(out)
    _give_convolutions_channels(quantized.graph, {node.input[1]: weights[node.input[1]] for node in products})
    names = {node.name for node in quantized.graph.node}
    int8 = [node.name for node in products if names & {f"{node.name}_quant", f"{node.name}_MatMul_quant"}]
    if not int8:
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"model {reference.name} has nothing to quantize dynamically: {_GROUPED}, or {_NO_DYNAMIC_FORM}",
            "quantize it statically",
        )
    left = tuple(
        f"{node.name}: {_GROUPED if node.name in grouped else _NO_DYNAMIC_FORM}"
        for node in products
        if node.name not in int8
    )
    helper.set_model_props(quantized, {FORM_KEY: FORM, FLOAT_KEY: "\n".join(left)})
    content = quantized.SerializeToString(deterministic=True)
    out.write_bytes(content)
    return QuantizedModel(out, sha256(content).hexdigest(), FORM, tuple(int8), left)


def _give_convolutions_channels(graph: GraphProto, weights: dict[str, TensorProto]) -> None:
    """Replace the weights of all ConvInteger nodes, s8 with one scale, by u8 ones with a scale per output channel.

    The product of both scales multiplies the output [N, C, …], so that of the weight becomes [C, 1, …].
    """
    convolutions = {node.input[1].removesuffix("_quantized") for node in graph.node if node.op_type == "ConvInteger"}
    replaced = {item.name: item for name in sorted(convolutions) for item in _per_channel(name, weights[name])}
    for item in graph.initializer:
        if item.name in replaced:
            item.CopyFrom(replaced[item.name])


def _per_channel(name: str, weight: TensorProto) -> Iterator[TensorProto]:
    values = numpy_helper.to_array(weight)
    one = (1,) * (values.ndim - 1)
    scales = weight_scales(np.abs(values).reshape(values.shape[0], -1).max(axis=1).tolist()).reshape(-1, *one)
    codes = np.rint(values / scales) + _ZERO_POINT
    yield numpy_helper.from_array(codes.astype(np.uint8), f"{name}_quantized")
    yield numpy_helper.from_array(np.array(_ZERO_POINT, np.uint8), f"{name}_zero_point")
    yield numpy_helper.from_array(scales[:, 0], f"{name}_scale")


def _groups(node: NodeProto) -> int:
    return next((int(item.i) for item in node.attribute if item.name == "group"), 1)
