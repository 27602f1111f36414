"""Folds an ONNX graph into the reference form: constants, batch normalization, biases. Not for an engine's own fusions.

The rule, so that every machine makes the same graph: Constant nodes become initializers; Reshape, Squeeze, Unsqueeze,
Transpose, Cast and Identity of constants are computed; then, in graph order, a BatchNormalization after a Conv becomes
w' = w · γ/√(σ² + ε), b' = (b − μ) · γ/√(σ² + ε) + β, and an Add of one constant per channel after a Conv joins its
bias. Folding is in float64 with IEEE-exact operations only, rounded to float32 once. A MatMul of a matrix with a
constant one, and the Add of one constant per column after it, become a Gemm (`join_products`), as onnxruntime would
make it: there it would do so only after it has looked for INT8 products, and find none.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

_MOVES = {"Reshape", "Squeeze", "Unsqueeze", "Transpose", "Cast", "Identity"}


def fold(graph: GraphProto, opset: int) -> None:
    """Fold in place. The names of the tensors that remain are the model's own."""
    _fold_constants(graph, opset)
    _drop_identities(graph)
    for second, rule in (("BatchNormalization", _fold_normalization), ("Add", _fold_bias)):
        _fold_after_convolutions(graph, second, rule)
    _drop_unused_initializers(graph)


def join_products(graph: GraphProto) -> bool:
    """Make a Gemm of every MatMul + Add that is one, in place; whether there was any. Wants shapes in `value_info`."""
    ranks = {
        item.name: len(item.type.tensor_type.shape.dim)
        for item in (*graph.value_info, *graph.input)
        if item.type.tensor_type.HasField("shape")
    }
    constants = {item.name: item for item in graph.initializer}
    outputs = {item.name for item in graph.output}
    uses = Counter(_reads(graph))
    products = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "MatMul"
        and ranks.get(node.input[0]) == 2
        and node.input[1] in constants
        and len(constants[node.input[1]].dims) == 2
    }
    joined = set()
    kept = []
    for node in graph.node:
        name = next((name for name in node.input if name in products), None) if node.op_type == "Add" else None
        if name is not None and uses[name] == 1 and name not in outputs:
            bias = next(other for other in node.input if other != name)
            columns = constants[products[name].input[1]].dims[1]
            if bias in constants and list(constants[bias].dims) in ([columns], [1, columns]):
                left, right = products[name].input
                if len(constants[bias].dims) == 2:  # onnxruntime quantizes the bias of a Gemm as a vector only
                    row = numpy_helper.to_array(constants[bias]).reshape(-1)
                    bias = _free_name(f"{bias}_row", {*uses, *constants})
                    graph.initializer.append(numpy_helper.from_array(row, bias))
                kept.append(helper.make_node("Gemm", [left, right, bias], node.output, name=products[name].name))
                joined.add(name)
                continue
        kept.append(node)
    _replace_nodes(graph, [node for node in kept if node.output[0] not in joined])
    _drop_unused_initializers(graph)
    return bool(joined)


def _fold_constants(graph: GraphProto, opset: int) -> None:
    constants = {item.name: item for item in graph.initializer}
    kept = []
    for node in graph.node:
        tensor: TensorProto
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
        elif node.op_type in _MOVES and all(name in constants for name in node.input if name):
            values = {name: numpy_helper.to_array(constants[name]) for name in node.input if name}
            (computed, *_) = ReferenceEvaluator(node, opsets={"": opset}).run(None, values)
            tensor = numpy_helper.from_array(np.asarray(computed), node.output[0])
        else:
            kept.append(node)
            continue
        constants[tensor.name] = tensor
        graph.initializer.append(tensor)
    _replace_nodes(graph, kept)


def _drop_identities(graph: GraphProto) -> None:
    outputs = {item.name for item in graph.output}
    renamed: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        if node.op_type in ("Identity", "Dropout") and node.output[0] not in outputs and not any(node.output[1:]):
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    _replace_nodes(graph, kept)


Weights = tuple[NDArray[np.float64], NDArray[np.float64]]
Rule = Callable[[NodeProto, str, Weights, dict[str, NDArray[np.float64]]], Weights | None]


def _fold_after_convolutions(graph: GraphProto, second: str, rule: Rule) -> None:
    """Where a Conv is followed by nothing but one `second`, let `rule` compute one weight and bias for both."""
    constants = {
        item.name: numpy_helper.to_array(item).astype(np.float64)
        for item in graph.initializer
        if item.data_type == TensorProto.FLOAT
    }
    uses = Counter(_reads(graph))
    taken = uses.keys() | constants.keys() | {name for node in graph.node for name in node.output}
    producers = {node.output[0]: node for node in graph.node if node.op_type == "Conv"}
    kept = []
    for node in graph.node:
        joined = next((name for name in node.input if name in producers), None) if node.op_type == second else None
        convolution = producers[joined] if joined is not None else None
        if joined is None or convolution is None or uses[joined] != 1 or convolution.input[1] not in constants:
            kept.append(node)
            continue
        weight = constants[convolution.input[1]]
        named_bias = convolution.input[2] if len(convolution.input) > 2 else ""
        bias = constants.get(named_bias, np.zeros(weight.shape[0])) if named_bias in (*constants, "") else None
        folded = rule(node, joined, (weight, bias), constants) if bias is not None else None
        if folded is None:
            kept.append(node)
            continue
        names = tuple(
            name if uses[name] == 1 else _free_name(name or f"{node.output[0]}_bias", taken)
            for name in (convolution.input[1], named_bias)
        )
        for name, value in zip(names, folded, strict=True):
            constants[name] = value.astype(np.float32).astype(np.float64)
            stored = numpy_helper.from_array(value.astype(np.float32), name)
            present = next((item for item in graph.initializer if item.name == name), None)
            if present is None:
                graph.initializer.append(stored)
            else:
                present.CopyFrom(stored)
        convolution.input[:] = [convolution.input[0], *names]
        convolution.output[0] = node.output[0]
        producers[node.output[0]] = convolution
    _replace_nodes(graph, kept)


def _free_name(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 1
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    taken.add(name)
    return name


def _fold_normalization(
    node: NodeProto, joined: str, weights: Weights, constants: dict[str, NDArray[np.float64]]
) -> Weights | None:
    if node.input[0] != joined or any(node.output[1:]) or any(name not in constants for name in node.input[1:5]):
        return None
    weight, bias = weights
    gamma, beta, mean, variance = (constants[name] for name in node.input[1:5])
    epsilon = next((float(item.f) for item in node.attribute if item.name == "epsilon"), 1e-5)
    factor = gamma / np.sqrt(variance + epsilon)
    return weight * factor.reshape(-1, *[1] * (weight.ndim - 1)), (bias - mean) * factor + beta


def _fold_bias(
    node: NodeProto, joined: str, weights: Weights, constants: dict[str, NDArray[np.float64]]
) -> Weights | None:
    weight, bias = weights
    other = next((name for name in node.input if name != joined), "")
    added = constants.get(other)
    per_channel = (weight.shape[0], *[1] * (weight.ndim - 2))
    if added is None or added.shape not in (per_channel, (1, *per_channel)):
        return None
    return weight, bias + added.reshape(-1)


def _drop_unused_initializers(graph: GraphProto) -> None:
    used = set(_reads(graph))
    kept = [deepcopy(item) for item in graph.initializer if item.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _reads(graph: GraphProto) -> Iterator[str]:
    """Every name that a node, a subgraph or an output reads, once per reading."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                yield from _reads(subgraph)
    yield from (item.name for item in graph.output)


def _replace_nodes(graph: GraphProto, nodes: list[NodeProto]) -> None:
    copies = [deepcopy(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
