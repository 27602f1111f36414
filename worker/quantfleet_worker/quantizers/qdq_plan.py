"""Decides which nodes of an ONNX graph run in INT8, and hence which tensors need a scale. Not for choosing scales.

INT8 covers the convolutions and matrix products with constant weights and what lies between them and has an INT8 kernel
in ONNX Runtime. Not so in transformers, see `float_regions`. The head stays in float: whatever follows the last
weighted node (save a Relu or Clip that fuses into it), because 8 bits of a Softmax or of box coordinates cannot tell a
thousand classes or a pixel apart. A matrix product before either, which can write float itself, does so.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantType

from .float_regions import float_tensors

_PRODUCTS = ("Gemm", "MatMul")
WEIGHTED = ("Conv", *_PRODUCTS)
_BETWEEN = (
    "Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Mul", "Pad",
    "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
_STEERED = ("Clip", "Pad", "Reshape", "Resize", "Slice")
"""Their first input is data; the others say how far, and rounding a factor of 2 to 8 bits moves every pixel."""
HEAD = "it belongs to the head, which stays in float for its resolution"


@dataclass(frozen=True)
class QdqPlan:
    """`nodes` get INT8 inputs, by name; `float_outputs` are tensors that stay in float though an INT8 node makes them.

    `weighted` are the names of all Conv, Gemm and MatMul nodes with constant weights, in graph order.
    """

    nodes: tuple[str, ...]
    weighted: tuple[str, ...]
    float_outputs: frozenset[str]


@dataclass(frozen=True)
class WeightSlot:
    """A weight that is quantized per channel along `axis`; `values` is the float32 weight."""

    name: str
    axis: int
    values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]


class TableQuantizer(QDQQuantizer):  # type: ignore[misc] # onnxruntime publishes no types
    """ONNX Runtime's QDQ quantizer, which also leaves chosen tensors in float, and keeps what limits a tensor that has
    parameters of its own: without them it leaves a Relu or Clip out, because the range behind it does its work.

    A `symmetric` range does not: every Relu and Clip stays, and what it alone reads is not quantized, so that TensorRT
    fuses it into what comes before. TensorRT wants biases in float, as it dequantizes bytes only, and each reader of a
    tensor with a pair of its own (onnxruntime, DedicatedQDQPair; NVIDIA's ModelOpt does likewise). From version 10 on it
    takes weights as bytes (NVIDIA, "Quantized Weights"); 8 refuses constants of type Int8.
    """

    def __init__(
        self, model: ModelProto, plan: QdqPlan, overrides: Mapping[str, list[dict[str, object]]], *, symmetric: bool
    ) -> None:
        self._float_outputs = plan.float_outputs
        self._given = frozenset(overrides)
        # The library wants a range of every tensor it looks at; the scales of those it quantizes are in `overrides`.
        anything = TensorData(lowest=np.float32(0), highest=np.float32(1))
        tensors: dict[str, Any] = dict.fromkeys(tensor_names(model.graph), anything)
        options: dict[str, Any] = {"TensorQuantOverrides": dict(overrides)}
        if symmetric:
            options |= {"ActivationSymmetric": True, "QuantizeBias": False, "DedicatedQDQPair": True}
        self._limited = _limited(model.graph) if symmetric else {}
        super().__init__(
            model,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, tensors),
            nodes_to_quantize=list(plan.nodes),
            nodes_to_exclude=[],
            op_types_to_quantize=[*WEIGHTED, *_BETWEEN],
            extra_options=options,
        )

    def quantize_activation_tensor(self, tensor_name: str) -> None:
        """Mark a tensor for quantization, unless the plan leaves it in float; not what is limited to it right away."""
        if tensor_name not in self._float_outputs:
            super().quantize_activation_tensor(tensor_name)
            self.tensors_to_quantize.pop(self._limited.get(tensor_name, ""), None)

    def try_replacing_upstream_output(self, upstream_output_name: str, output_name: str) -> bool:
        """Leave a Relu or Clip out, unless its input has parameters of its own; whether it was left out."""
        if upstream_output_name in self._given:
            return False
        return bool(super().try_replacing_upstream_output(upstream_output_name, output_name))


def plan(graph: GraphProto, excluded: frozenset[str] = frozenset()) -> QdqPlan:
    """The plan for a reference graph, whose nodes all have names.

    Weighted nodes whose output is in `excluded` stay in float.
    """
    weights = {item.name for item in graph.initializer if item.data_type == TensorProto.FLOAT}
    weighted = [node for node in graph.node if _is_weighted(node, weights)]
    body = _ancestors(graph, (node.input[0] for node in weighted))
    last = [node for node in weighted if not _reaches(node.output, body)]
    fused = {
        node.name
        for node in graph.node
        if node.op_type in ("Relu", "Clip") and any(node.input[0] == item.output[0] for item in last)
    }
    names = tuple(node.name for node in weighted)
    left = float_tensors(graph, names)
    between = body - left
    nodes = [
        node.name
        for node in graph.node
        if (_is_weighted(node, weights) and node.output[0] not in excluded)
        or (node.op_type in _BETWEEN and _reaches(node.output, between))
        or node.name in fused
    ]
    read = {node.input[0] for node in weighted}
    products = {
        node.output[0]
        for node in weighted
        if node.op_type in _PRODUCTS and (node in last or node.output[0] in left - read)
    }
    return QdqPlan(tuple(nodes), names, frozenset(products))


@dataclass(frozen=True, eq=False)
class QuantizedTensors:
    """What is quantized under a plan: the weights per channel, and the activations, each with the one whose scale it
    has. Mostly its own; what only moves values, a MaxPool say, has the scale of its input."""

    owners: Mapping[str, str]
    weights: tuple[WeightSlot, ...]


def quantized_tensors(model: ModelProto) -> tuple[tuple[str, ...], tuple[WeightSlot, ...]]:
    """The activations that need a scale of their own, in graph order, and the weights quantized per channel."""
    found = quantized_under(model, plan(model.graph), symmetric=False)
    scales = set(found.owners.values())
    return tuple(name for name in tensor_names(model.graph) if name in scales), found.weights


def quantized_under(model: ModelProto, chosen: QdqPlan, *, symmetric: bool) -> QuantizedTensors:
    """What is quantized under a plan, where activations are `symmetric` or not.

    Found by quantizing a copy with made-up ranges, so that the answer is what the quantizer will really ask for.
    """
    result = TableQuantizer(_without_values(model), chosen, {}, symmetric=symmetric).quantize_model()
    owners = {
        node.input[0].removesuffix("_QuantizeLinear_Input"): node.input[1].removesuffix("_scale")
        for node in result.graph.node
        if node.op_type == "QuantizeLinear"
    }
    axes = {
        node.input[0].removesuffix("_quantized"): attribute.i
        for node in result.graph.node
        if node.op_type == "DequantizeLinear"
        for attribute in node.attribute
        if attribute.name == "axis"
    }
    weighted_inputs = {node.input[1] for node in model.graph.node if node.op_type in WEIGHTED}
    weights = tuple(
        WeightSlot(item.name, axes[item.name], numpy_helper.to_array(item))
        for item in model.graph.initializer
        if item.name in axes and item.name in weighted_inputs
    )
    return QuantizedTensors(owners, weights)


def _without_values(model: ModelProto) -> ModelProto:
    """A copy whose float constants have one element in as many dimensions: what is quantized does not depend on them,
    and quantizing them takes seconds."""
    graph = model.graph
    copy = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    copy.graph.name = graph.name
    copy.graph.node.extend(graph.node)
    copy.graph.input.extend(graph.input)
    copy.graph.output.extend(graph.output)
    copy.graph.value_info.extend(graph.value_info)
    for item in graph.initializer:
        if item.data_type == TensorProto.FLOAT:
            one = np.ones([1] * len(item.dims), np.float32)
            copy.graph.initializer.append(numpy_helper.from_array(one, item.name))
        else:
            copy.graph.initializer.append(item)
    return copy


def tensor_names(graph: GraphProto) -> tuple[str, ...]:
    """The names of a graph's inputs and of what its nodes compute, in graph order."""
    inputs = (item.name for item in graph.input)
    return (*inputs, *(name for node in graph.node for name in node.output if name))


def _limited(graph: GraphProto) -> dict[str, str]:
    """The outputs of Relu and Clip whose input nothing else reads, each with that input."""
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(item.name for item in graph.output)
    inputs = {item.name for item in graph.input}
    return {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type in ("Relu", "Clip") and readers[node.input[0]] == 1 and node.input[0] not in inputs
    }


def _is_weighted(node: NodeProto, weights: set[str]) -> bool:
    return node.op_type in WEIGHTED and node.input[1] in weights


def _ancestors(graph: GraphProto, tensors: Iterable[str]) -> set[str]:
    """The tensors whose values one of `tensors` is computed from, these included."""
    found = set(tensors)
    for node in reversed(graph.node):
        if _reaches(node.output, found):
            found.update(node.input[:1] if node.op_type in _STEERED else node.input)
    return found


def _reaches(outputs: Iterable[str], tensors: set[str]) -> bool:
    return any(name in tensors for name in outputs)
