"""What a reference graph says of values without being run: which cannot be negative, and which are the same.

For ranges that another tool found, a threshold each. Not for ranges that are calibrated here: those are observed.
"""

from collections.abc import Iterator, Mapping

from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from quantfleet_worker.models.onnx_ties import passes

_SQUASHING = ("Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Sqrt")
"""Operators whose outputs are never below 0, whatever comes in."""
_KEEPING = ("Add", "Concat", "GlobalAveragePool", "GlobalMaxPool", "Mul")
"""Operators whose outputs are never below 0 where no input is; so are those that `passes` knows."""
_AVERAGING = "AveragePool"


def nonnegative(graph: GraphProto) -> frozenset[str]:
    """The tensors that the nodes compute and that cannot be below 0."""
    constants = {item.name: item for item in graph.initializer}
    found: set[str] = set()
    for node in graph.node:
        if _squashes(node, constants) or _keeps(node, constants, found):
            found.update(node.output)
    return frozenset(found)


def moves(graph: GraphProto) -> Iterator[tuple[str, str]]:
    """Pairs of an input and an output of nodes that move values and compute none. An average computes."""
    constants = {item.name: item for item in graph.initializer}
    for node in graph.node:
        if node.op_type != _AVERAGING and passes(node, constants):
            for output in node.output if node.op_type == "Split" else node.output[:1]:
                yield node.input[0], output


def _squashes(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    if node.op_type == "Clip":
        return len(node.input) > 1 and _is_nonnegative(node.input[1], constants)
    return node.op_type in _SQUASHING


def _keeps(node: NodeProto, constants: Mapping[str, TensorProto], found: set[str]) -> bool:
    inputs = node.input[:1] if passes(node, constants) else node.input if node.op_type in _KEEPING else []
    return bool(inputs) and all(name in found or _is_nonnegative(name, constants) for name in inputs)


def _is_nonnegative(name: str, constants: Mapping[str, TensorProto]) -> bool:
    return name in constants and bool((numpy_helper.to_array(constants[name]) >= 0).all())
