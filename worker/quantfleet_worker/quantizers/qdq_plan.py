"""Decides which nodes of an ONNX graph run in INT8, and hence which tensors need a scale. Not for choosing scales.

INT8 covers the convolutions and matrix products with constant weights and what lies between them and has an INT8 kernel
in ONNX Runtime. Not so in transformers, see `float_regions`. The head stays in float: whatever follows the last
weighted node (save a Relu or Clip that fuses into it), because 8 bits of a Softmax or of box coordinates cannot tell a
thousand classes or a pixel apart. A matrix product before either, which can write float itself, does so.
"""

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

    TensorRT's form is `symmetric`, also where a constant is an activation. TensorRT dequantizes bytes only, so biases
    stay in float, and it is given each reader of a tensor with a pair of its own (onnxruntime, DedicatedQDQPair). From
    version 10 on it takes weights as bytes ("Quantized Weights" in NVIDIA's documentation); 8 refuses such constants.
    """

    def __init__(
        self, model: ModelProto, plan: QdqPlan, overrides: Mapping[str, list[dict[str, object]]], *, symmetric: bool
    ) -> None:
        self._fused = _fused_in_tensorrt(model.graph) if symmetric else frozenset()
        self._float_outputs = plan.float_outputs | self._fused
        self._given = frozenset(overrides)
        # The library wants a range of every tensor it looks at; the scales of those it quantizes are in `overrides`.
        anything = TensorData(lowest=np.float32(0), highest=np.float32(1))
        tensors: dict[str, Any] = dict.fromkeys(tensor_names(model.graph), anything)
        options: dict[str, Any] = {"TensorQuantOverrides": dict(overrides)}
        if symmetric:
            options |= {"ActivationSymmetric": True, "QuantizeBias": False, "DedicatedQDQPair": True}
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
        """Mark a tensor for quantization, unless the plan leaves it in float."""
        if tensor_name not in self._float_outputs:
            super().quantize_activation_tensor(tensor_name)

    def is_tensor_quantized(self, tensor_name: str) -> bool:
        """Whether a tensor is marked; what is inside a fused kernel counts, so that what reads it is marked too."""
        return tensor_name in self._fused or bool(super().is_tensor_quantized(tensor_name))

    def try_replacing_upstream_output(self, upstream_output_name: str, output_name: str) -> bool:
        """Leave a Relu or Clip out, unless its input has parameters of its own; whether it was left out.

        A symmetric range does not end at 0: there a Relu stays, and the library does not ask."""
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


def _fused_in_tensorrt(graph: GraphProto) -> frozenset[str]:
    """What TensorRT computes in one kernel with the node that makes it, and so wants in float: what only a Relu or Clip
    reads, and one addend of a sum.

    (NVIDIA TensorRT Developer Guide, explicit quantization: quantize the residual input of an addition, not the output
    of the convolution before it.)
    """
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    made = {name: node for node in graph.node for name in node.output}
    outputs = {item.name for item in graph.output}

    def fuses(name: str, kinds: tuple[str, ...]) -> bool:
        before, after = made.get(name), readers.get(name, [])
        fusing = before is not None and before.op_type in (*WEIGHTED, "Add")
        return fusing and name not in outputs and len(after) == 1 and after[0].op_type in kinds

    found = {name for name in made if fuses(name, ("Relu", "Clip"))}
    for node in graph.node:
        if node.op_type == "Add":
            of_weighted = [name for name in node.input if name in made and made[name].op_type in WEIGHTED]
            found.update([name for name in of_weighted if fuses(name, ("Add",))][:1])
    return frozenset(found)


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
