"""Writes bias corrections into a reference graph, and sets apart the layers left in float. Not for choosing them."""

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from quantfleet_domain.calibration.correction import FormCorrections, LayerCorrection


def corrected(model: ModelProto, corrections: FormCorrections) -> ModelProto:
    """A copy of the graph whose layers have the corrected biases, each one of its own, as several may share one.

    An excluded layer gets a weight of its own, so that others can have theirs quantized. A layer whose bias is computed
    stays as it is. What a Gemm adds takes in its factor beta, of which onnxruntime's INT8 kernel knows nothing.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    nodes = {node.output[0]: node for node in copy.graph.node}
    constants = {item.name: item for item in copy.graph.initializer}
    for node in copy.graph.node:
        if node.op_type == "Gemm":
            _take_in_beta(copy.graph, node, constants)
    for item in corrections.layers:
        _correct(copy.graph, nodes[item.layer], item, constants)
    for item in corrections.excluded:
        weight = numpy_helper.to_array(constants[item.weight])
        nodes[item.layer].input[1] = _added(copy.graph, weight, f"{item.layer}.float_weight")
    return copy


def _correct(graph: GraphProto, node: NodeProto, item: LayerCorrection, constants: dict[str, TensorProto]) -> None:
    delta = np.array(item.delta, np.float32)
    name = node.input[2] if len(node.input) > 2 else ""
    if name and name not in constants:
        return
    bias = numpy_helper.to_array(constants[name]) if name else np.zeros_like(delta)
    if bias.size in (1, delta.size) and bias.shape[:-1] in ((), (1,)):
        bias = bias.reshape(-1)  # a Gemm's, which can only be quantized as a vector
    del node.input[2:]
    node.input.append(_added(graph, bias + delta, f"{item.layer}.corrected_bias"))


def _take_in_beta(graph: GraphProto, node: NodeProto, constants: dict[str, TensorProto]) -> None:
    beta = next((item for item in node.attribute if item.name == "beta"), None)
    if beta is None or (len(node.input) > 2 and node.input[2] and node.input[2] not in constants):
        return
    if beta.f != 1 and len(node.input) > 2 and node.input[2]:
        addend = numpy_helper.to_array(constants[node.input[2]]) * np.float32(beta.f)
        node.input[2] = _added(graph, addend, f"{node.output[0]}.addend")
        constants[node.input[2]] = graph.initializer[-1]
    node.attribute.remove(beta)


def _added(graph: GraphProto, values: NDArray[np.float32], name: str) -> str:
    graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
    return name
