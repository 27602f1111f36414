"""What becomes of a TensorRT calibration cache for an ONNX model, and what its graph says of values."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.worker.onnx_networks import NetworkBuilder, calibrated, classifier, pictures, saved

from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.calibration.tensorrt_cache import CalibrationCache
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.onnx_model import inspect
from quantfleet_worker.models.onnx_values import moves, nonnegative
from quantfleet_worker.models.scale_import import import_scales
from quantfleet_worker.quantizers.onnx_qdq import FORMS, quantize

DIGEST = "9" * 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its reference graph, and the table of its absmax ranges."""
    folder = tmp_path_factory.mktemp("import")
    reference, graph = inspect(saved(classifier(), folder), {})
    (folder / "reference.onnx").write_bytes(reference)
    table = calibrated(folder / "reference.onnx", graph, pictures(8))
    (folder / "scales.json").write_bytes(table.to_json())
    return folder


def ours(folder: Path) -> ScaleTable:
    return ScaleTable.from_json((folder / "scales.json").read_bytes())


def imported(folder: Path, thresholds: dict[str, float]) -> ScaleTable:
    text = CalibrationCache.of_thresholds("8401", "EntropyCalibration2", thresholds).to_text()
    (folder / "some.cache").write_bytes(text)
    return import_scales(folder / "some.cache", folder / "model.onnx", "onnx", {}, DIGEST)


def thresholds_of(table: ScaleTable) -> dict[str, float]:
    return {row.tensor: max(-row.lo, row.hi) for row in table.activations}


@pytest.mark.parametrize("form", FORMS)
def test_a_model_quantized_with_a_cache_is_the_one_quantized_with_the_same_ranges(folder: Path, form: str) -> None:
    rows = [
        replace(row, lo=-max(-row.lo, row.hi) if row.lo < 0 else 0.0, hi=max(-row.lo, row.hi))
        for row in ours(folder).activations
    ]
    models = []
    for table in (replace(ours(folder), activations=tuple(rows)), imported(folder, thresholds_of(ours(folder)))):
        quantize(folder / "reference.onnx", table, form, folder / "int8.onnx")
        model = onnx.load(folder / "int8.onnx")
        del model.metadata_props[:]  # the table's digest
        models.append(model.SerializeToString(deterministic=True))
    assert models[0] == models[1]


def test_exported_thresholds_come_back(folder: Path) -> None:
    found = imported(folder, thresholds_of(ours(folder)))
    again = imported(folder, thresholds_of(found))
    assert thresholds_of(found) == thresholds_of(again)
    assert found.header.model == DIGEST
    assert found.header.numerics_class.engine_version == "8401-EntropyCalibration2"


def test_a_tensor_that_the_cache_lacks_has_the_range_of_what_only_moves_its_values(folder: Path) -> None:
    thresholds = thresholds_of(ours(folder))
    moved = {("pooled" if name == "stem.relu" else name): value for name, value in thresholds.items()}
    assert "stem.relu" not in moved
    assert thresholds_of(imported(folder, moved)) == thresholds_of(imported(folder, thresholds))


def test_an_average_gives_its_input_no_range(folder: Path) -> None:
    thresholds = thresholds_of(ours(folder))
    del thresholds["joined"], thresholds["sum.relu"], thresholds["side.relu"]
    with pytest.raises(QuantfleetError, match=r"no range for 3 of 8 tensors of the model: 'sum\.relu'") as caught:
        imported(folder, thresholds)
    assert caught.value.code is ErrorCode.SCALES_INVALID


def test_a_cache_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(QuantfleetError, match=r"nowhere\.cache cannot be read"):
        import_scales(folder / "nowhere.cache", folder / "model.onnx", "onnx", {}, DIGEST)


def test_what_cannot_be_negative_follows_from_the_operators(folder: Path) -> None:
    graph = onnx.load(folder / "reference.onnx").graph
    assert nonnegative(graph) == {
        *("stem.relu", "pooled", "deep.relu6", "sum.relu", "side.relu", "joined", "averaged", "flat"),
        "probabilities",
    }


def test_a_clip_from_below_zero_and_what_a_negative_constant_touches_can_be_negative() -> None:
    net = NetworkBuilder()
    one, minus = net.constant("one", np.float32(1)), net.constant("minus", np.float32(-1))
    relu = net.node("Relu", ["image"], "relu")
    net.node("Clip", [relu, minus, one], "clip")
    net.node("Add", [relu, one], "up")
    net.node("Add", [relu, minus], "down")
    net.node("Add", ["up", "image"], "mixed")
    graph = net.model(net.node("Mul", ["up", "up"], "square")).graph
    assert nonnegative(graph) == {"relu", "up", "square"}


def test_an_average_moves_no_values_and_a_max_pool_does() -> None:
    net = NetworkBuilder()
    net.node("MaxPool", ["image"], "most", kernel_shape=[2, 2])
    net.node("AveragePool", ["most"], "mean", kernel_shape=[2, 2])
    graph = net.model(net.node("Transpose", ["mean"], "turned")).graph
    assert list(moves(graph)) == [("image", "most"), ("mean", "turned")]
