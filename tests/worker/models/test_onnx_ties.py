"""Which activations of a reference graph share a range, rule by rule."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper
from tests.worker.onnx_networks import NetworkBuilder

from quantfleet_worker.models.onnx_model import inspect
from quantfleet_worker.models.onnx_ties import PASSING, ties


def graph(*nodes: onnx.NodeProto, constants: Mapping[str, ArrayLike] | None = None) -> onnx.GraphProto:
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    source = helper.make_tensor_value_info("a", TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), "graph", [source], [], values)


def node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, outputs, **attributes)


def test_the_inputs_of_a_concat_are_tied_to_its_output() -> None:
    assert ties(graph(node("Concat", ["a", "b"], ["c"])), ("a", "b", "other", "c")) == (("a", "b", "c"),)


def test_a_concat_that_is_not_observed_runs_in_float_and_ties_nothing() -> None:
    assert ties(graph(node("Concat", ["a", "b"], ["c"])), ("a", "b")) == ()


@pytest.mark.parametrize("kind", PASSING)
def test_an_operator_that_passes_values_on_ties_its_sides(kind: str) -> None:
    assert ties(graph(node(kind, ["a"], ["b"])), ("a", "b")) == (("a", "b"),)


@pytest.mark.parametrize("kind", ["Relu", "Clip", "GlobalAveragePool", "Sigmoid", "LeakyRelu", "Conv"])
def test_an_operator_that_computes_ties_nothing(kind: str) -> None:
    assert ties(graph(node(kind, ["a"], ["b"])), ("a", "b")) == ()


@pytest.mark.parametrize("kind", ["Add", "Mul"])
def test_operands_have_a_range_each(kind: str) -> None:
    assert ties(graph(node(kind, ["a", "b"], ["c"])), ("a", "b", "c")) == ()


def test_all_outputs_of_a_split_are_tied_and_the_indices_of_a_pool_are_not() -> None:
    assert ties(graph(node("Split", ["a"], ["b", "c"])), ("a", "b", "c")) == (("a", "b", "c"),)
    assert ties(graph(node("MaxPool", ["a"], ["b", "c"])), ("a", "b", "c")) == (("a", "b"),)


def test_a_cubic_resize_overshoots_and_others_do_not() -> None:
    for mode, tied in (("nearest", True), ("linear", True), ("cubic", False)):
        assert bool(ties(graph(node("Resize", ["a"], ["b"], mode=mode)), ("a", "b"))) is tied


def test_a_pad_with_a_value_of_its_own_ties_nothing() -> None:
    for value, tied in ((0.0, True), (-10.0, False)):
        padded = graph(node("Pad", ["a", "pads", "value"], ["b"]), constants={"value": np.float32(value)})
        assert bool(ties(padded, ("a", "b"))) is tied
    assert ties(graph(node("Pad", ["a", "pads", "computed"], ["b"])), ("a", "b")) == ()


def test_ties_reach_through_tensors_that_are_not_observed() -> None:
    pooled = graph(node("MaxPool", ["a"], ["pooled"]), node("Concat", ["pooled", "b"], ["c"]))
    assert ties(pooled, ("b", "a", "c")) == (("b", "a", "c"),)


def test_groups_that_share_a_tensor_are_one_and_a_constant_joins_none() -> None:
    chained = graph(node("Concat", ["a", "b"], ["c"]), node("Reshape", ["c", "shape"], ["d"]))
    assert ties(chained, ("a", "b", "c", "d")) == (("a", "b", "c", "d"),)
    shared = {"k": np.zeros(1, np.float32)}
    apart = graph(node("Concat", ["a", "k"], ["b"]), node("Concat", ["c", "k"], ["d"]), constants=shared)
    assert ties(apart, ("c", "d", "a", "b")) == (("c", "d"), ("a", "b"))


def fire(builder: NetworkBuilder, source: str, name: str, inner: int) -> str:
    left = builder.node("Relu", [builder.convolution(source, f"{name}.1", inner, 8, 1)], f"{name}.left")
    right = builder.node("Relu", [builder.convolution(source, f"{name}.3", inner, 8)], f"{name}.right")
    return builder.node("Concat", [left, right], f"{name}.joined", axis=1)


def test_inspecting_a_model_finds_its_ties_and_no_range_before_an_activation(tmp_path: Path) -> None:
    builder = NetworkBuilder()
    pooled = builder.node("MaxPool", [fire(builder, "image", "fire", 3)], "pooled", kernel_shape=[2, 2], strides=[2, 2])
    onnx.save(builder.model(builder.convolution(pooled, "last", 16, 4), ("N", 3, 32, 32)), tmp_path / "m.onnx")
    _, found = inspect(tmp_path / "m.onnx", {})
    assert found.ties == (("fire.left", "fire.right", "fire.joined"),)
    assert not {"fire.1", "fire.3", "pooled"} & set(found.activations)


def test_a_pool_beside_a_convolution_is_tied_to_their_input(tmp_path: Path) -> None:
    """The quantizer has met no INT8 reader of the input when it meets the pool, so it would give both sides a scale."""
    builder = NetworkBuilder()
    pooled = builder.node("MaxPool", ["image"], "pooled", kernel_shape=[2, 2], strides=[2, 2])
    left, right = builder.convolution(pooled, "left", 3, 4), builder.convolution("image", "right", 3, 4)
    shrunk = builder.node("AveragePool", [right], "shrunk", kernel_shape=[2, 2], strides=[2, 2])
    joined = builder.node("Add", [left, shrunk], "sum")
    onnx.save(builder.model(builder.convolution(joined, "last", 4, 4), ("N", 3, 32, 32)), tmp_path / "m.onnx")
    _, found = inspect(tmp_path / "m.onnx", {})
    assert found.ties == (("image", "pooled"),)
