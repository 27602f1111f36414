"""Finds activations of a reference graph that must share a range. Not for choosing it.

A kernel that moves INT8 codes without computing cannot change their scale: where the range before it and after it
differ, an engine must convert in between, or runs it in float. Two rules join tensors; what they join is joined in one
group, also through tensors that are not observed:

- *Concat* joins its inputs and its output, where the output is observed. Paddle's oneDNN passes give the inputs the
  output's scale (compute_propagate_scales_onednn_pass.cc), so with other ranges the table's would not be in effect;
  Paddle Lite gives all of them their mean on accelerators (restrict_quantized_op_with_same_input_output_scale_pass.cc);
  ONNX Runtime copies where the scales are equal and converts by a table where not.
- *Operators whose output is made of their input's values* (`PASSING`) join the two. ONNX Runtime runs them in INT8
  only where both scales are equal, and its quantizer gives most of them one; Paddle's oneDNN passes give the output the
  input's scale. An average over a window counts among them: oneDNN does not rescale it,
  and ONNX Runtime shares its input's scale.

Not tied, with reasons. *GlobalAveragePool*: the mean of a whole map has a far smaller range than the map, and ONNX
Runtime rescales it. *Relu and Clip*: where nothing else reads their input, it is not observed at all, since they fuse
into what computes it, and the range behind them is the only one; where something does, each side has its own use.
*Add and Mul*: every engine takes a scale for each operand, oneDNN's sum into a convolution included; a shared range
would cost the smaller operand its resolution and gain nothing.
"""

from collections.abc import Iterable, Mapping

from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

PASSING = (
    "AveragePool", "Flatten", "MaxPool", "Pad", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
)  # fmt: skip
"""Operators whose outputs are values of their first input, or means of such; see `passes` for two exceptions."""


def ties(graph: GraphProto, activations: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The groups of `activations`, the observed tensors in recipe order, that must share a range.

    Each group has two members or more, in recipe order, and so have the groups by their first members.
    """
    observed = frozenset(activations)
    constants = {item.name: item for item in graph.initializer}
    parents: dict[str, str] = {}
    for node in graph.node:
        joined = [name for name in _joined(node, observed, constants) if name and name not in constants]
        for name in joined[1:]:
            root, other = _root(parents, joined[0]), _root(parents, name)
            if root != other:
                parents[other] = root
    groups: dict[str, list[str]] = {}
    for name in activations:
        groups.setdefault(_root(parents, name), []).append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _joined(node: NodeProto, observed: frozenset[str], constants: Mapping[str, TensorProto]) -> Iterable[str]:
    if node.op_type == "Concat" and node.output[0] in observed:
        return (*node.input, *node.output)
    if passes(node, constants):
        # The second output of a MaxPool holds indices; all of a Split's hold values.
        return (node.input[0], *(node.output if node.op_type == "Split" else node.output[:1]))
    return ()


def passes(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    """Whether a node's outputs stay within the range of its first input, 0 included.

    A cubic Resize overshoots its input, and a Pad may bring a value of its own; zero is in every range.
    """
    if node.op_type not in PASSING:
        return False
    if node.op_type == "Pad" and len(node.input) > 2 and node.input[2]:
        value = constants.get(node.input[2])
        return value is not None and not numpy_helper.to_array(value).any()
    return node.op_type != "Resize" or all(item.s != b"cubic" for item in node.attribute if item.name == "mode")


def _root(parents: dict[str, str], name: str) -> str:
    while name in parents:
        name = parents[name]
    return name
