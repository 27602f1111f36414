"""Counts the INT8 nodes of a graph that ONNX Runtime optimised. Not for deciding what should be quantized."""

from pathlib import Path

import onnx
from onnx import GraphProto, NodeProto, TensorProto

from ..quantizers.metadata import FLOAT_KEY
from .base import NodeCounts

_INT8 = {"ConvInteger", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat"}
_INT8 |= {"QGemm", "QLinearConv", "QLinearMatMul"}
_WEIGHTED = {"Conv", "FusedConv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul"}


def count_nodes(model: Path, optimized: Path) -> NodeCounts:
    """What became of the model's convolutions and matrix products with constant weights in the optimised graph.

    Both are ONNX files. In an FP32 model every one of them is quantizable, none ran in INT8 and none fell back.
    """
    source = onnx.load(model, load_external_data=False)
    wanted = _constant_products(source.graph)
    int8 = sum(node.op_type in _INT8 for node in onnx.load(optimized).graph.node)
    if not any(node.op_type == "DequantizeLinear" for node in source.graph.node):
        return NodeCounts(int8, len(wanted), ())
    left = next((item.value for item in source.metadata_props if item.key == FLOAT_KEY), "")
    reasons = dict(line.split(": ", 1) for line in left.splitlines())
    blocked = _blocked_names(source.graph, wanted)
    remaining = {
        blocked.get(node.name, node.name): node for node in onnx.load(optimized).graph.node if node.op_type in _WEIGHTED
    }
    fallbacks = [
        f"{node.name} ({node.op_type}): {reasons.get(node.name, _reason(node, source.graph))}"
        for node in wanted
        if node.name in remaining
    ]
    known = {node.name for node in wanted}
    fallbacks += [
        f"{name} ({node.op_type}): onnxruntime made it of several nodes, in float"
        for name, node in remaining.items()
        if name not in known
    ]
    return NodeCounts(int8, len(wanted), tuple(fallbacks))


def _blocked_names(graph: GraphProto, wanted: list[NodeProto]) -> dict[str, str]:
    """The nodes by the names that they get on channel-blocked tensors: of their output, or that of what fused in."""
    readers = {name: node for node in graph.node for name in node.input}
    names: dict[str, str] = {}
    for node in wanted:
        outputs = [node.output[0]]
        if outputs[0] in readers:
            outputs += readers[outputs[0]].output
        names |= {f"{output}_nchwc": node.name for output in outputs}
    return names


def _constant_products(graph: GraphProto) -> list[NodeProto]:
    constants = {item.name for item in graph.initializer if item.data_type != TensorProto.INT64}
    dequantized = {
        node.output[0] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }
    return [node for node in graph.node if node.op_type in _WEIGHTED and node.input[1] in constants | dequantized]


def _reason(node: NodeProto, graph: GraphProto) -> str:
    producers = {item.output[0]: item.op_type for item in graph.node}
    if producers.get(node.input[0]) != "DequantizeLinear" or producers.get(node.input[1]) != "DequantizeLinear":
        return "the model gives it no quantized inputs"
    readers = [item.op_type for item in graph.node if node.output[0] in item.input]
    if readers != ["QuantizeLinear"]:
        return "its output is used unquantized"
    return "onnxruntime has no INT8 kernel for it here"
