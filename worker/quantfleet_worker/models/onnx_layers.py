"""Finds the layers of a reference graph whose bias can be corrected, and how they follow each other."""

from onnx import GraphProto, NodeProto

from quantfleet_domain.calibration.graph import Layer

CORRECTABLE = ("Conv", "Gemm")
"""Weighted operators that have a bias input; a MatMul has none."""


def layers(graph: GraphProto, weights: frozenset[str]) -> tuple[Layer, ...]:
    """The correctable layers in graph order. `weights` names the initializers that are quantized."""
    found = [node for node in graph.node if _is_layer(node, weights)]
    depths: dict[str, int] = {}
    followed: set[str] = set()
    behind: dict[str, frozenset[str]] = {}
    for node in graph.node:
        depth = max((depths.get(name, 0) for name in node.input), default=0)
        before = frozenset().union(*(behind.get(name, frozenset()) for name in node.input))
        if _is_layer(node, weights):
            followed |= before
            depth, before = depth + 1, frozenset({node.output[0]})
        for name in node.output:
            depths[name], behind[name] = depth, before
    return tuple(
        Layer(node.output[0], node.input[1], depths[node.output[0]], node.output[0] not in followed) for node in found
    )


def _is_layer(node: NodeProto, weights: frozenset[str]) -> bool:
    return node.op_type in CORRECTABLE and node.input[1] in weights
