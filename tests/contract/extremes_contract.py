"""What every collector keeps where a job wants extremes only. A test module subclasses `ExtremesContract`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper
from tests.contract.statistic_contract import NUMERICS, Open, Oracle, compare, network, observing, samples, untimed
from tests.worker.onnx_networks import classifier, pictures, saved

from quantfleet_domain.calibration.partial import Partial
from quantfleet_domain.calibration.statistic import EXTREMES_VERSION, bin_of
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.onnx_model import inspect

EXTREMES = replace(NUMERICS, statistic_version=EXTREMES_VERSION)


class ExtremesContract:
    """Subclasses define the fixture `collector`: a function from a reference graph to a new collector in EXTREMES."""

    @pytest.fixture(scope="class")
    def negation(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """y = −x, which gives a tensor any content."""
        return network(tmp_path_factory.mktemp("negation"), [helper.make_node("Neg", ["x"], ["y"])], ["y"])

    @untimed
    @given(feeds=samples)
    def test_two_elements_of_each_sample_are_counted(
        self, collector: Open, negation: Path, feeds: list[NDArray[np.float32]]
    ) -> None:
        counted, oracle = collector(negation, observing("x", "y")), Oracle(negation, observing("x", "y"), EXTREMES)
        compare(counted, oracle, feeds)
        partial = counted.partial()
        assert partial == Partial.decode(partial.encode())
        for name, sign in (("x", 1), ("y", -1)):
            ends = np.array([[(sign * values).min(), (sign * values).max()] for values in feeds], np.float32)
            bins, counts = np.unique(bin_of(ends), return_counts=True)
            found = partial.tensors[name]
            assert (found.bins.tolist(), found.counts.tolist()) == (bins.tolist(), counts.tolist())
            assert np.array_equal(found.sample_minimum, ends[:, 0])
            assert np.array_equal(found.sample_maximum, ends[:, 1])

    @pytest.mark.parametrize(
        ("values", "extremes"),
        [
            ([-0.0, -3.0, -2.0], (-3.0, 0.0)),
            ([0.0, 3.0, 2.0], (0.0, 3.0)),
            ([-0.0, -0.0, -0.0], (0.0, 0.0)),
            ([-0.0, 0.0, 5.0], (0.0, 5.0)),
            ([-7.0, -3.0, -2.0], (-7.0, -2.0)),
            ([7.0, 3.0, 2.0], (2.0, 7.0)),
            ([-1e-45, 1e-45, 0.0], (-1e-45, 1e-45)),
            ([-3e38, 3e38, 0.0], (-3e38, 3e38)),
        ],
    )
    def test_signs_and_zeros_of_either_sign_are_in_order(
        self, collector: Open, negation: Path, values: list[float], extremes: tuple[float, float]
    ) -> None:
        counted = collector(negation, observing("x"))
        counted.observe(0, "", {"x": np.array(values * 11, np.float32).reshape(1, 1, 3, 11)})
        found = counted.partial().tensors["x"]
        assert (found.minimum, found.maximum) == tuple(map(float, np.array(extremes, np.float32)))
        assert not np.signbit([end for end in (found.minimum, found.maximum) if not end]).any()

    @pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
    def test_a_value_that_is_not_finite_is_an_error_that_names_tensor_and_sample(
        self, collector: Open, negation: Path, value: float
    ) -> None:
        for place in (0, 1, 20, 31, 32, 41):
            counted = collector(negation, observing("y"))
            counted.observe(0, "good.jpg", {"x": np.ones((1, 1, 6, 7), np.float32)})
            bad = np.ones((1, 1, 6, 7), np.float32)
            bad.flat[[place, place - 1]] = value
            with pytest.raises(QuantfleetError, match=r"'y' holds 2 NaN or infinite .*bad\.jpg") as caught:
                counted.observe(1, "bad.jpg", {"x": bad})
            assert caught.value.code is ErrorCode.SAMPLE_NOT_FINITE

    def test_samples_may_come_in_any_order_and_without_elements(self, collector: Open, negation: Path) -> None:
        counted = collector(negation, observing("x", "y"))
        for index, width in ((5, 2), (1, 0), (3, 4)):
            counted.observe(index, "", {"x": np.full((1, 1, 1, width), index, np.float32)})
        partial = counted.partial()
        assert partial.samples == {1, 3, 5}
        assert partial.tensors["y"].samples.tolist() == [3, 5]
        assert partial.tensors["y"].sample_minimum.tolist() == [-3, -5]
        assert partial.tensors["y"].elements == 4

    @untimed
    @given(channels=st.integers(1, 40), size=st.integers(1, 9), seed=st.integers(0, 99), batch=st.integers(1, 2))
    def test_the_padding_of_blocked_channels_is_no_extreme(
        self, collector: Open, tmp_path_factory: pytest.TempPathFactory, channels: int, size: int, seed: int, batch: int
    ) -> None:
        # All real values are far below zero; Sigmoid makes 0.5 of the zeros that a block is padded with.
        generator = np.random.default_rng(seed)
        nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Sigmoid", ["c"], ["s"])]
        weight = generator.uniform(-9, -5, (channels, 3, 1, 1))
        path = network(tmp_path_factory.mktemp("padding"), nodes, ["s"], {"w": weight})
        graph = observing("x", "c", "s")
        feeds = [generator.uniform(1, 2, (batch, 3, size, size)).astype(np.float32) for _ in range(2)]
        counted = collector(path, graph)
        compare(counted, Oracle(path, graph, EXTREMES), feeds)
        assert counted.partial().tensors["s"].maximum < 0.01

    def test_a_network_has_the_extremes_of_its_exposed_session(self, collector: Open, tmp_path: Path) -> None:
        content, graph = inspect(saved(classifier(), tmp_path), {})
        path = tmp_path / "reference.onnx"
        path.write_bytes(content)
        counted, oracle = collector(path, graph), Oracle(path, graph, EXTREMES)
        for index, picture in enumerate(pictures(6)):
            counted.observe(index, "", {"image": picture})
            oracle.observe(index, "", {"image": picture})
        assert counted.partial().encode() == oracle.partial().encode()
