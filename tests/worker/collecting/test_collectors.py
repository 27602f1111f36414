"""Both collectors pass one suite, and shards that different collectors counted merge."""

from pathlib import Path

import onnx
import pytest
from onnx import helper
from tests.contract.extremes_contract import EXTREMES, ExtremesContract
from tests.contract.statistic_contract import NUMERICS, CollectorContract, Open, network, observing
from tests.worker.onnx_networks import classifier, pictures, saved

from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.calibration.partial import merge_partials
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.collecting import tap_library
from quantfleet_worker.collecting.choice import collector
from quantfleet_worker.collecting.collector import Collector
from quantfleet_worker.collecting.native_collector import NativeCollector
from quantfleet_worker.collecting.numpy_collector import NumpyCollector
from quantfleet_worker.models.onnx_model import inspect


def native(reference: Path, graph: CalibrationGraph) -> Collector:
    return NativeCollector(tap_library.load(), reference, graph, NUMERICS)


def plain(reference: Path, graph: CalibrationGraph) -> Collector:
    return NumpyCollector(reference, graph, NUMERICS, "a test")


class TestNativeCollector(CollectorContract):
    @pytest.fixture(scope="class")
    def collector(self) -> Open:
        return native


class TestNumpyCollector(CollectorContract):
    @pytest.fixture(scope="class")
    def collector(self) -> Open:
        return plain


class TestNativeExtremes(ExtremesContract):
    @pytest.fixture(scope="class")
    def collector(self) -> Open:
        return lambda reference, graph: NativeCollector(tap_library.load(), reference, graph, EXTREMES)


class TestNumpyExtremes(ExtremesContract):
    @pytest.fixture(scope="class")
    def collector(self) -> Open:
        return lambda reference, graph: NumpyCollector(reference, graph, EXTREMES, "a test")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CalibrationGraph]:
    folder = tmp_path_factory.mktemp("reference")
    content, graph = inspect(saved(classifier(), folder), {})
    path = folder / "reference.onnx"
    path.write_bytes(content)
    return path, graph


def test_what_is_chosen_here_is_the_compiled_tap(reference: tuple[Path, CalibrationGraph]) -> None:
    assert collector(*reference, NUMERICS).name == "native-tap"


def test_shards_of_different_collectors_merge_to_the_bytes_of_one(reference: tuple[Path, CalibrationGraph]) -> None:
    shards = [native(*reference), plain(*reference), native(*reference)]
    whole = plain(*reference)
    for index, picture in enumerate(pictures(9)):
        shards[index % 3].observe(index, "", {"image": picture})
        whole.observe(index, "", {"image": picture})
    merged = merge_partials([shard.partial() for shard in shards])
    assert merged.encode() == whole.partial().encode()


def test_counts_beyond_32_bits_do_not_overflow(
    reference: tuple[Path, CalibrationGraph],
) -> None:
    counted, expected = native(*reference), plain(*reference)
    assert isinstance(counted, NativeCollector)
    for index, picture in enumerate(pictures(4)):
        # As if four thousand million elements had been counted before, which then have to be put aside.
        counted.taps.state["pending"] += 2**32 - 1 - 5000
        counted.observe(index, "", {"image": picture})
        expected.observe(index, "", {"image": picture})
    assert counted.taps.state["pending"].max() < 2**32
    assert counted.taps.totals.any()
    assert counted.partial().encode() == expected.partial().encode()


def test_a_graph_that_brings_a_tap_of_its_own_is_refused(tmp_path: Path) -> None:
    path = network(tmp_path, [helper.make_node("Neg", ["x"], ["y"])], ["y"])
    model = onnx.load(path)
    model.graph.node.append(tap_library.tap_node("y", 0, 0, 0, 1))
    model.opset_import.append(helper.make_opsetid(tap_library.DOMAIN, 1))
    onnx.save(model, path)
    with pytest.raises(QuantfleetError, match="quantfleet") as caught:
        collector(path, observing("y"), NUMERICS)
    assert caught.value.code is ErrorCode.ENGINE_FAILED


def test_the_numpy_collector_says_why_it_counts(reference: tuple[Path, CalibrationGraph]) -> None:
    assert plain(*reference).name == "numpy (a test)"
