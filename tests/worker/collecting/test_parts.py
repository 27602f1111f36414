"""Which tensors need no tap of their own: their values are those of others."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.contract.statistic_contract import NUMERICS, Oracle, compare, network, observing

from quantfleet_worker.collecting import tap_library
from quantfleet_worker.collecting.native_collector import NativeCollector

WEIGHTS = {
    f"{name}.w": np.random.default_rng(seed).standard_normal((channels, 4, 3, 3))
    for seed, (name, channels) in enumerate({"a": 16, "b": 32, "odd": 5}.items())
}


def convolution(name: str) -> list[onnx.NodeProto]:
    """A convolution of x and its Relu, `name`."""
    return [
        helper.make_node("Conv", ["x", f"{name}.w"], [f"{name}.c"]),
        helper.make_node("Relu", [f"{name}.c"], [name]),
    ]


def concatenation(output: str, *inputs: str) -> onnx.NodeProto:
    return helper.make_node("Concat", inputs, [output], axis=1)


A, B, ODD = convolution("a"), convolution("b"), convolution("odd")
FLAT = helper.make_node("Flatten", ["ab"], ["flat"])
TURNED = helper.make_node("Transpose", ["odd"], ["turned"], perm=[0, 3, 2, 1])


@pytest.mark.parametrize(
    ("nodes", "tensors", "taps"),
    [
        ([*A, *B, concatenation("ab", "a", "b")], ("a", "b", "ab"), 2),
        ([*A, *B, concatenation("ab", "a", "b")], ("a", "ab"), 2),
        ([*A, *B, concatenation("ab", "a", "b")], ("ab",), 1),
        ([*A, concatenation("ab", "a", "a")], ("a", "ab"), 1),
        ([*A, *ODD, concatenation("ab", "a", "odd"), FLAT], ("a", "odd", "ab", "flat"), 2),
        ([*A, *B, concatenation("ab", "a", "b"), FLAT], ("a", "b", "ab", "flat"), 2),
        ([*A, *B, concatenation("ab", "a", "b"), FLAT], ("flat",), 1),
        ([*A, *B, concatenation("ab", "a", "b"), concatenation("end", "ab", "a")], ("a", "b", "ab", "end"), 2),
        ([*ODD, TURNED], ("odd", "turned"), 1),
        ([concatenation("ab", "x", "x"), FLAT], ("x", "flat"), 1),
    ],
)
def test_tensors_made_of_others_have_no_tap_and_the_same_counts(
    tmp_path: Path, nodes: list[onnx.NodeProto], tensors: tuple[str, ...], taps: int
) -> None:
    read = {name for node in nodes for name in node.input}
    ends = [name for node in nodes for name in node.output if name not in read]
    path = network(tmp_path, nodes, ends, {name: values for name, values in WEIGHTS.items() if name in read})
    graph = observing(*tensors)
    counted = NativeCollector(tap_library.load(), path, graph, NUMERICS)
    assert len(counted.taps.state) == taps
    generator = np.random.default_rng(9)
    feeds = [generator.standard_normal((1, 4, 7, 6)).astype(np.float32) for _ in range(3)]
    compare(counted, Oracle(path, graph), feeds)
