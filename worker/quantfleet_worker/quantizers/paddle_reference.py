"""What Paddle's quantizer does to a program, seen on its reference graph: to simulate it. Not for the program itself.

The rules are those of `paddle_ranges`, `paddle_connected`, `paddle_onednn` and `paddle_lite`, said of ONNX operators.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from quantfleet_domain.calibration.forms import (
    ActivationForm,
    QuantizationParameters,
    activation_parameters,
    weight_scales,
)
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_worker.quantizers.headroom import CODES, CodeLimits, code_limit
from quantfleet_worker.quantizers.paddle_connected import Node, unfollowed
from quantfleet_worker.quantizers.paddle_ranges import LEVELS
from quantfleet_worker.quantizers.qdq_plan import WEIGHTED
from quantfleet_worker.quantizers.qdq_scales import WeightScales

_TRANSPARENT = (
    "AveragePool", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Reshape", "Resize", "Squeeze", "Transpose",
    "Unsqueeze",
)  # fmt: skip
"""What `paddle_ranges.TRANSPARENT` becomes in ONNX."""
_SHAPED = ("Reshape", "Resize", "Squeeze", "Unsqueeze")
"""Operators whose further inputs, constants or not, are shapes and axes."""
_AVERAGES = ("AveragePool", "GlobalAveragePool")


@dataclass(frozen=True, eq=False)
class PaddleScales:
    """The quantized activations, and by output the weights of the layers that run in INT8."""

    activations: Mapping[str, QuantizationParameters]
    layers: Mapping[str, WeightScales]


def paddle_scales(
    graph: GraphProto, outputs: frozenset[str], table: ScaleTable, excluded: frozenset[str], *, headroom: bool
) -> PaddleScales:
    """What oneDNN computes with of the quantized program of a reference graph; layers whose output is in `excluded` are
    in float.

    `outputs` are what users read, in float; `headroom` is for x86 without VNNI.
    """
    constants = {item.name: item for item in graph.initializer}
    thresholds, layers = _quantized(graph, table, excluded, constants)
    unsigned = _unsigned(graph, constants) - outputs  # INT8 operators read a copy, which is signed
    limits = _limits(graph, layers if headroom else {}, unsigned, constants)
    activations = {}
    for name, threshold in thresholds.items():
        widened = threshold * limits.widening(name)
        if name in unsigned:
            activations[name] = QuantizationParameters(np.float32(widened / CODES), np.uint8(0))
        else:
            activations[name] = _signed(widened)
    for node in graph.node:  # oneDNN averages codes, and gives codes of the same scale
        if node.op_type in _AVERAGES and node.input[0] in activations:
            activations[node.output[0]] = activations[node.input[0]]
    for name in _summed_inside(graph, layers, constants):
        activations.pop(name, None)
    return PaddleScales(activations, layers)


def tensorrt_scales(graph: GraphProto, table: ScaleTable, excluded: frozenset[str]) -> PaddleScales:
    """What TensorRT gets of that program: all signed. So does Paddle compute the program where no pass changes it."""
    constants = {item.name: item for item in graph.initializer}
    thresholds, layers = _quantized(graph, table, excluded, constants)
    return PaddleScales({name: _signed(threshold) for name, threshold in thresholds.items()}, layers)


def lite_scales(graph: GraphProto, table: ScaleTable, excluded: frozenset[str]) -> PaddleScales:
    """The same for Paddle Lite, whose programs have scales for the inputs of INT8 layers alone, signed ones.

    Where an operator in float reads such an input too, Lite gives it the float32 values; a simulation does not.
    """
    constants = {item.name: item for item in graph.initializer}
    known = _thresholds(graph, table, constants)
    layers = _layers(graph, table, known, excluded, constants)
    read = {node.input[0] for node in graph.node if node.output[0] in layers}
    return PaddleScales({name: _signed(known[name]) for name in sorted(read)}, layers)


def _quantized(
    graph: GraphProto, table: ScaleTable, excluded: frozenset[str], constants: Mapping[str, TensorProto]
) -> tuple[dict[str, float], dict[str, WeightScales]]:
    """The thresholds of the tensors that INT8 layers are computed from, and those layers."""
    known = _thresholds(graph, table, constants)
    layers = _layers(graph, table, known, excluded, constants)
    wanted = _wanted(graph, {node.output[0]: node for node in graph.node if node.output[0] in layers}, constants)
    return {name: threshold for name, threshold in known.items() if name in wanted}, layers


def _signed(threshold: float) -> QuantizationParameters:
    return QuantizationParameters(np.float32(threshold / LEVELS), np.int8(0))


def _thresholds(graph: GraphProto, table: ScaleTable, constants: Mapping[str, TensorProto]) -> dict[str, float]:
    rows = {row.tensor: row for row in table.activations}
    known: dict[str, float] = {}
    for row in table.activations:
        source = rows[row.tied_to or row.tensor]
        if row.native_name is not None:
            parameters = activation_parameters(ActivationForm.S8_SYMMETRIC, source.lo, source.hi)
            known[row.tensor] = float(parameters.scale) * LEVELS
    for node in graph.node:
        inputs = _activations_of(node, constants)
        if len(inputs) != 1 or inputs[0] not in known:
            continue
        if node.op_type in _TRANSPARENT:
            known[node.output[0]] = known[inputs[0]]
        elif _rectifies(node, constants):
            known.setdefault(node.output[0], known[inputs[0]])
    return known


def _layers(
    graph: GraphProto,
    table: ScaleTable,
    known: Mapping[str, float],
    excluded: frozenset[str],
    constants: Mapping[str, TensorProto],
) -> dict[str, WeightScales]:
    """The layers in INT8, by output."""
    rows = {row.tensor: row for row in table.weights if row.native_name is not None}
    in_float = excluded | _float_products(graph, constants)
    layers = {}
    for node in [node for node in graph.node if node.op_type in WEIGHTED and node.input[1] in rows]:
        if node.input[0] in known and node.output[0] not in in_float:
            row = rows[node.input[1]]
            values = numpy_helper.to_array(constants[row.tensor])
            layers[node.output[0]] = WeightScales(row.axis, weight_scales(row.absmax), values)
    return layers


def _float_products(graph: GraphProto, constants: Mapping[str, TensorProto]) -> set[str]:
    """The products that stay in float, by output: those that Paddle's quantizer finds no bias behind, and the head."""
    products = [node for node in graph.node if node.op_type in WEIGHTED and node.op_type != "Conv"]
    found = {node.output[0] for node in products if not _has_bias(node, graph, constants)}
    if any(node.op_type == "Conv" for node in graph.node):
        found |= unfollowed(_node(node, constants) for node in graph.node) & {node.output[0] for node in products}
    return found


def _has_bias(node: NodeProto, graph: GraphProto, constants: Mapping[str, TensorProto]) -> bool:
    """Whether a bias is added to a product: what Paddle makes of two axes and a bias is a Gemm here."""
    if node.op_type == "Gemm":
        return True
    readers = [reader for reader in graph.node if node.output[0] in reader.input]
    addends = [name for reader in readers for name in reader.input if name in constants]
    return len(readers) == 1 and readers[0].op_type == "Add" and len(addends) == 1


def _node(node: NodeProto, constants: Mapping[str, TensorProto]) -> Node:
    return _activations_of(node, constants), node.output, node.op_type in WEIGHTED and node.input[1] in constants


def _wanted(graph: GraphProto, layers: Mapping[str, NodeProto], constants: Mapping[str, TensorProto]) -> set[str]:
    """The inputs of the layers in INT8, the sums, and what they are computed from."""
    wanted = {node.input[0] for node in layers.values()}
    sums: set[str] = set()
    for node in graph.node:
        inputs = _activations_of(node, constants)
        adds = node.op_type == "Add" and len(inputs) > 1
        if adds or (_rectifies(node, constants) and sums.issuperset(inputs)):
            sums.update(node.output)
    wanted |= sums
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
    return wanted


def _summed_inside(
    graph: GraphProto, layers: Mapping[str, WeightScales], constants: Mapping[str, TensorProto]
) -> Iterator[str]:
    """The outputs of convolutions that oneDNN adds to another tensor before it rounds them: of two, the later one's."""
    readers = Counter(name for node in graph.node for name in node.input)
    order = {name: index for index, node in enumerate(graph.node) for name in node.output}
    for node in graph.node:
        inputs = _activations_of(node, constants)
        if node.op_type == "Add" and len(inputs) > 1:
            fusable = [name for name in inputs if name in layers and readers[name] == 1]
            yield from sorted(fusable, key=order.__getitem__)[-1:]


def _unsigned(graph: GraphProto, constants: Mapping[str, TensorProto]) -> set[str]:
    unsigned: set[str] = set()
    for node in graph.node:
        inputs = _activations_of(node, constants)
        if _rectifies(node, constants) or (
            node.op_type in _TRANSPARENT and node.op_type != "Concat" and unsigned.issuperset(inputs)
        ):
            unsigned.update(node.output)
    return unsigned


def _limits(
    graph: GraphProto, layers: Mapping[str, WeightScales], unsigned: set[str], constants: Mapping[str, TensorProto]
) -> CodeLimits:
    limits = []
    for node in graph.node:
        if node.output[0] in layers and node.input[0] in unsigned:
            layer = layers[node.output[0]]
            groups = next((int(item.i) for item in node.attribute if item.name == "group"), 1)
            limits.append((node.input[0], code_limit(layer.values, layer.axis, layer.scales, groups)))
    shared = ((*_activations_of(node, constants), *node.output) for node in graph.node if node.op_type in _TRANSPARENT)
    return CodeLimits(limits, shared)


def _activations_of(node: NodeProto, constants: Mapping[str, TensorProto]) -> list[str]:
    inputs = node.input[:1] if node.op_type in _SHAPED else node.input
    return [name for name in inputs if name and name not in constants]


def _rectifies(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    """Whether the node is what Paddle calls relu or relu6."""
    if node.op_type == "Clip":
        floor = constants.get(node.input[1]) if len(node.input) > 1 else None
        return floor is not None and float(numpy_helper.to_array(floor)) == 0
    return bool(node.op_type == "Relu")
