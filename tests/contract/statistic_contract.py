"""What every collector of activations counts. A test module subclasses `CollectorContract` and gives it `collector`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tests.worker.onnx_networks import classifier, pictures, saved

from quantfleet_domain.calibration.graph import CalibrationGraph, InputTensor, NumericsClass
from quantfleet_domain.calibration.partial import Partial, PartialAccumulator
from quantfleet_domain.calibration.statistic import TensorStatistic, bin_of
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker import onnxruntime_library
from quantfleet_worker.collecting.collector import Collector
from quantfleet_worker.models.onnx_model import inspect

NUMERICS = NumericsClass("onnxruntime-cpu", "1", "test", "0" * 64, "1" * 64, "none", 1)
SHAPE = ["N", "C", "H", "W"]
Open = Callable[[Path, CalibrationGraph], Collector]

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
samples = st.lists(
    arrays(np.float32, array_shapes(min_dims=4, max_dims=4, max_side=9), elements=finite | st.just(0.0)),
    min_size=1,
    max_size=4,
)
# A collector opens a session, and a busy machine takes its time.
untimed = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))


class Oracle(Collector):
    """The plainest collector: all tensors are outputs of the optimised session, and numpy sorts their values."""

    name = "oracle"

    def __init__(self, reference: Path, graph: CalibrationGraph, numerics: NumericsClass = NUMERICS) -> None:
        ort = onnxruntime_library.load()
        model = onnx.load(reference)
        self._tensors = [name for name in graph.activations if name not in {item.name for item in model.graph.input}]
        own = {item.name for item in model.graph.output}
        exposed = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self._tensors]
        model.graph.output.extend(item for item in exposed if item.name not in own)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._counted = PartialAccumulator(numerics, graph.activations)

    def observe(self, sample_index: int, sample_name: str, feeds: Mapping[str, NDArray[np.float32]]) -> None:
        values = self._session.run(self._tensors, dict(feeds)) if self._tensors else []
        self._counted.observe(sample_index, sample_name, {**feeds, **dict(zip(self._tensors, values, strict=True))})

    def partial(self) -> Partial:
        return self._counted.partial()


def network(
    folder: Path, nodes: list[onnx.NodeProto], outputs: list[str], weights: Mapping[str, Any] | None = None
) -> Path:
    """A model of one input, `x`, of any shape with four axes."""
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(values, np.float32), name) for name, values in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return saved(onnx.shape_inference.infer_shapes(model), folder, f"{'-'.join(outputs)}.onnx")


def observing(*tensors: str) -> CalibrationGraph:
    """What calibration knows of such a model, as far as collecting goes."""
    return CalibrationGraph(
        inputs=(InputTensor("x", (1, 1, 1, 1), "float32"),),
        outputs=(),
        activations=tensors,
        weights=(),
        native_names={},
        native_weights={},
        unmapped=(),
        recipe="",
        layers=(),
        ties=(),
    )


def compare(collector: Collector, oracle: Collector, feeds: list[NDArray[np.float32]]) -> None:
    """Both count the samples, and all their bytes are equal."""
    for index, values in enumerate(feeds):
        collector.observe(index, f"{index}.jpg", {"x": values})
        oracle.observe(index, f"{index}.jpg", {"x": values})
    assert collector.partial().encode() == oracle.partial().encode()


class CollectorContract:
    """Subclasses define the fixture `collector`: a function from a reference graph to a new collector of it."""

    @pytest.fixture(scope="class")
    def negation(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """y = −x, which gives a tensor any content."""
        return network(tmp_path_factory.mktemp("negation"), [helper.make_node("Neg", ["x"], ["y"])], ["y"])

    @untimed
    @given(feeds=samples)
    def test_counts_are_those_of_the_raw_values(
        self, collector: Open, negation: Path, feeds: list[NDArray[np.float32]]
    ) -> None:
        counted = collector(negation, observing("x", "y"))
        for index, values in enumerate(feeds):
            counted.observe(index, "", {"x": values})
        tensors = counted.partial().tensors
        for name, sign in (("x", 1), ("y", -1)):
            everything = sign * np.concatenate([values.ravel() for values in feeds])
            bins, counts = np.unique(bin_of(everything), return_counts=True)
            assert tensors[name].bins.tolist() == bins.tolist()
            assert tensors[name].counts.tolist() == counts.tolist()
            assert tensors[name].sample_minimum.tolist() == [(sign * values).min() for values in feeds]
            assert tensors[name].sample_maximum.tolist() == [(sign * values).max() for values in feeds]

    def test_zeros_of_either_sign_denormals_and_the_largest_values_have_their_bins(
        self, collector: Open, negation: Path
    ) -> None:
        largest, denormal = float(np.finfo(np.float32).max), 1.401298464324817e-45
        values = [0.0, -0.0, denormal, -denormal, largest, -largest, 1.0, -1.0]
        found = count(collector(negation, observing("y")), np.array(values * 9, np.float32).reshape(1, 1, 8, 9))
        assert found.counts.sum() == 72
        assert found.bins[[0, -1]].tolist() == [0, bin_of(np.array([-largest], np.float32))[0]]
        assert found.counts[0] == 3 * 9  # the zeros and the positive denormal
        only = count(collector(negation, observing("y")), np.zeros((1, 2, 3, 4), np.float32))
        assert (only.bins.tolist(), only.counts.tolist()) == ([0], [24])
        assert not np.signbit([only.sample_minimum, only.sample_maximum]).any()

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_value_that_is_not_finite_is_an_error_that_names_tensor_and_sample(
        self, collector: Open, negation: Path, value: float
    ) -> None:
        counted = collector(negation, observing("y"))
        counted.observe(0, "good.jpg", {"x": np.ones((1, 1, 6, 7), np.float32)})
        bad = np.ones((1, 1, 6, 7), np.float32)
        bad[0, 0, 2, 3:5] = value
        with pytest.raises(QuantfleetError, match=r"'y' holds 2 NaN or infinite .*bad\.jpg") as caught:
            counted.observe(1, "bad.jpg", {"x": bad})
        assert caught.value.code is ErrorCode.SAMPLE_NOT_FINITE

    def test_an_input_that_is_not_finite_is_found_too(self, collector: Open, negation: Path) -> None:
        with pytest.raises(QuantfleetError, match="'x' holds 1 NaN"):
            collector(negation, observing("x", "y")).observe(0, "", {"x": np.full((1, 1, 1, 1), np.nan, np.float32)})

    def test_a_sample_observed_twice_is_an_error(self, collector: Open, negation: Path) -> None:
        counted = collector(negation, observing("y"))
        counted.observe(7, "", {"x": np.ones((1, 1, 1, 1), np.float32)})
        with pytest.raises(QuantfleetError, match="sample 7") as caught:
            counted.observe(7, "", {"x": np.ones((1, 1, 1, 1), np.float32)})
        assert caught.value.code is ErrorCode.SAMPLES_OVERLAP

    def test_a_sample_of_another_shape_is_the_engines_error(self, collector: Open, negation: Path) -> None:
        with pytest.raises(QuantfleetError) as caught:
            collector(negation, observing("y")).observe(0, "", {"x": np.ones((1, 1), np.float32)})
        assert caught.value.code is ErrorCode.ENGINE_FAILED

    def test_samples_may_come_in_any_order_and_without_elements(self, collector: Open, negation: Path) -> None:
        counted = collector(negation, observing("x", "y"))
        for index, width in ((5, 2), (1, 0), (3, 4)):
            counted.observe(index, "", {"x": np.full((1, 1, 1, width), index, np.float32)})
        partial = counted.partial()
        assert partial.samples == {1, 3, 5}
        assert partial.tensors["y"].samples.tolist() == [3, 5]
        assert partial.tensors["y"].sample_minimum.tolist() == [-3, -5]
        assert partial.tensors["y"].counts.sum() == 6

    def test_nothing_observed_is_an_empty_partial(self, collector: Open, negation: Path) -> None:
        partial = collector(negation, observing("x", "y")).partial()
        assert partial == Partial(NUMERICS, frozenset(), partial.tensors)
        assert partial.tensors["y"].elements == 0

    @untimed
    @given(channels=st.integers(1, 40), size=st.integers(1, 9), seed=st.integers(0, 99), batch=st.integers(1, 2))
    def test_the_padding_of_blocked_channels_is_not_counted(
        self, collector: Open, tmp_path_factory: pytest.TempPathFactory, channels: int, size: int, seed: int, batch: int
    ) -> None:
        # Sigmoid makes 0.5 of the zeros that a block is padded with.
        generator = np.random.default_rng(seed)
        nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Sigmoid", ["c"], ["s"])]
        weight = generator.standard_normal((channels, 3, 1, 1))
        path = network(tmp_path_factory.mktemp("padding"), nodes, ["s"], {"w": weight})
        graph = observing("x", "c", "s")
        feeds = [generator.standard_normal((batch, 3, size, size)).astype(np.float32) for _ in range(2)]
        counted = collector(path, graph)
        compare(counted, Oracle(path, graph), feeds)
        assert counted.partial().tensors["s"].elements == 2 * batch * channels * size * size

    def test_a_network_is_counted_with_the_bits_of_its_exposed_session(self, collector: Open, tmp_path: Path) -> None:
        content, graph = inspect(saved(classifier(), tmp_path), {})
        path = tmp_path / "reference.onnx"
        path.write_bytes(content)
        counted, oracle = collector(path, graph), Oracle(path, graph)
        for index, picture in enumerate(pictures(6)):
            counted.observe(index, "", {"image": picture})
            oracle.observe(index, "", {"image": picture})
        assert {"image", "sum.relu", "joined"} <= set(graph.activations)
        assert counted.partial().encode() == oracle.partial().encode()

    def test_tensors_that_the_optimiser_merges_renames_or_folds_are_counted_by_their_own_names(
        self, collector: Open, tmp_path: Path
    ) -> None:
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("Identity", ["c"], ["same"]),
            helper.make_node("Relu", ["same"], ["r"]),
            helper.make_node("Relu", ["c"], ["twin"]),
            helper.make_node("Concat", ["r", "twin", "c"], ["joined"], axis=1),
            helper.make_node("Flatten", ["joined"], ["flat"]),
            helper.make_node("Neg", ["k"], ["folded"]),
            helper.make_node("Add", ["r", "folded"], ["sum"]),
            helper.make_node("Transpose", ["sum"], ["turned"], perm=[0, 2, 3, 1]),
        ]
        generator = np.random.default_rng(3)
        weights = {"w": generator.standard_normal((16, 4, 3, 3)), "k": generator.standard_normal((1, 16, 1, 1))}
        path = network(tmp_path, nodes, ["flat", "turned", "same"], weights)
        graph = observing("x", "c", "same", "r", "twin", "joined", "flat", "folded", "sum", "turned")
        feeds = [generator.standard_normal((1, 4, 9, 7)).astype(np.float32) for _ in range(3)]
        compare(collector(path, graph), Oracle(path, graph), feeds)

    def test_matrix_products_without_convolutions_are_counted(self, collector: Open, tmp_path: Path) -> None:
        nodes = [
            helper.make_node("Flatten", ["x"], ["f"]),
            helper.make_node("MatMul", ["f", "w"], ["m"]),
            helper.make_node("Gemm", ["m", "v"], ["g"]),
            helper.make_node("Softmax", ["g"], ["p"]),
        ]
        generator = np.random.default_rng(4)
        weights = {"w": generator.standard_normal((48, 33)), "v": generator.standard_normal((33, 5))}
        path = network(tmp_path, nodes, ["p"], weights)
        feeds = [generator.standard_normal((1, 3, 4, 4)).astype(np.float32) for _ in range(3)]
        for tensors in (("x", "f", "m"), ("x", "f", "m", "g", "p"), ("x",)):
            graph = observing(*tensors)
            compare(collector(path, graph), Oracle(path, graph), feeds)

    def test_nodes_with_subgraphs_keep_what_those_read(self, collector: Open, tmp_path: Path) -> None:
        outer = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
        branches = {
            f"{name}_branch": helper.make_graph([helper.make_node(kind, ["a"], ["b"])], name, [], [outer])
            for name, kind in (("then", "Relu"), ("else", "Neg"))
        }
        nodes = [
            helper.make_node("Abs", ["x"], ["a"]),
            helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
            helper.make_node("Greater", ["s", "zero"], ["positive"]),
            helper.make_node("If", ["positive"], ["y"], **branches),
        ]
        path = network(tmp_path, nodes, ["y"], {"zero": 0.0})
        feeds = [sign * np.ones((1, 1, 5, 5), np.float32) for sign in (1, -1)]
        graph = observing("y")
        compare(collector(path, graph), Oracle(path, graph), feeds)

    def test_counts_of_collectors_at_work_together_are_apart(self, collector: Open, negation: Path) -> None:
        first, second = collector(negation, observing("x", "y")), collector(negation, observing("y"))
        first.observe(0, "", {"x": np.full((1, 1, 2, 2), 3, np.float32)})
        second.observe(0, "", {"x": np.full((1, 1, 2, 2), 5, np.float32)})
        assert first.partial().tensors["y"].minimum == -3
        assert second.partial().tensors["y"].minimum == -5
        assert (first.partial().tensors["x"].elements, second.partial().tensors["y"].elements) == (4, 4)


def count(collector: Collector, values: NDArray[np.float32]) -> TensorStatistic:
    collector.observe(0, "", {"x": values})
    return collector.partial().tensors["y"]
