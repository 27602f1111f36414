"""Finds what stays in float between the layers of a transformer. Not for the layers themselves, nor for the head.

A region is what computes between layers with weights. It is quantized together or not at all: 8 bits cannot hold a
Softmax's input beside the -10000 of an attention mask, nor the sums of a residual stream, whose few large channels a
normalization takes out again; and ONNX Runtime fuses GELU and attention only where all of them is in float.
"""

from collections.abc import Collection

from onnx import GraphProto, NodeProto

_FINE = ("Erf", "Gelu", "LayerNormalization", "Pow", "Softmax", "Sqrt")
"""Operators of attention, normalization and GELU, whole or taken apart."""


def float_tensors(graph: GraphProto, layers: Collection[str]) -> frozenset[str]:
    """The tensors of all regions that hold an operator of a transformer: one of `_FINE`, or a product of two tensors.

    `layers` are the names of the nodes with weights, which bound the regions.
    """
    constants = {item.name for item in graph.initializer}
    parents: dict[str, str] = {}
    fine = set()
    for node in graph.node:
        if node.name in layers or node.op_type == "Shape":  # a shape carries no values from one region to the next
            continue
        first, *others = [name for name in (*node.output, *node.input) if name and name not in constants]
        for name in others:
            root, other = _root(parents, first), _root(parents, name)
            if root != other:
                parents[other] = root
        if node.op_type in _FINE or _multiplies(node, constants):
            fine.add(first)
    roots = {_root(parents, name) for name in fine}
    tensors = {name for node in graph.node for name in (*node.input, *node.output)}
    return frozenset(name for name in tensors if _root(parents, name) in roots)


def _multiplies(node: NodeProto, constants: Collection[str]) -> bool:
    return node.op_type == "MatMul" and not any(name in constants for name in node.input)


def _root(parents: dict[str, str], name: str) -> str:
    while name in parents:
        name = parents[name]
    return name
