"""Corrected biases and layers left in float, in the models that onnxruntime then runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from tests.worker.onnx_networks import NetworkBuilder, calibrated, classifier, pictures, saved

from quantfleet_domain.calibration.correction import FormCorrections, LayerCorrection
from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_worker.engines.base import LoadOptions
from quantfleet_worker.engines.onnxruntime_cpu import ENGINE
from quantfleet_worker.models.onnx_model import inspect
from quantfleet_worker.quantizers.onnx_biases import corrected
from quantfleet_worker.quantizers.onnx_qdq import quantize


def run(model: Path | bytes, outputs: list[str], sample: NDArray[np.float32], optimized: Path | None = None) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(outputs, {"image": sample})


def ready(model: ModelProto, folder: Path) -> tuple[Path, CalibrationGraph, ScaleTable]:
    content, graph = inspect(saved(model, folder), {})
    reference = folder / "reference.onnx"
    reference.write_bytes(content)
    return reference, graph, calibrated(reference, graph, pictures(6))


def correction(layer: str, weight: str, delta: NDArray[np.float32] | None = None) -> LayerCorrection:
    return LayerCorrection(layer, weight, () if delta is None else tuple(delta.tolist()), 7.5)


def optimized_kinds(path: Path) -> dict[str, str]:
    return {node.name: node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.parametrize("kind", ["bias", "no bias", "vector", "row", "number", "matrix", "nothing", "unused"])
def test_every_kind_of_layer_computes_its_correction_more(kind: str) -> None:
    net = NetworkBuilder()
    if kind in ("bias", "no bias"):
        layer = net.convolution("image", "layer", 3, 5, bias=kind == "bias")
    else:
        flat = net.node("Flatten", ["image"], "flat", axis=2)  # three rows of 1024
        limits = [
            net.constant("start", np.array([0])),
            net.constant("end", np.array([4])),
            net.constant("axis", np.array([1])),
        ]
        rows = net.node("Slice", [flat, *limits], "rows")
        random = np.random.default_rng(0)
        addend = {"vector": (5,), "row": (1, 5), "number": (), "matrix": (3, 5), "unused": (5,)}.get(kind)
        inputs = [rows, net.constant("layer.w", random.standard_normal((4, 5)).astype(np.float32))]
        if addend is not None:
            inputs.append(net.constant("layer.c", np.asarray(random.standard_normal(addend), np.float32)))
        layer = net.node("Gemm", inputs, "layer", alpha=0.5, beta=0.0 if kind == "unused" else 2.0)
    model = net.model(layer)
    delta = np.arange(5, dtype=np.float32)
    changed = corrected(model, FormCorrections("u8s8", (correction("layer", "layer.w", delta),), ()))
    sample = pictures(1)[0]
    before, after = (run(item.SerializeToString(), ["layer"], sample)[0] for item in (model, changed))
    axis = (1, 5, 1, 1) if before.ndim == 4 else (1, 5)
    np.testing.assert_allclose(after - before, np.broadcast_to(delta.reshape(axis), before.shape), atol=1e-5)


def test_layers_that_share_a_bias_are_corrected_apart(tmp_path: Path) -> None:
    net = NetworkBuilder()
    first = net.convolution("image", "first", 3, 3)
    second = net.node("Conv", [first, "first.w", "first.b"], "second", kernel_shape=[3, 3], pads=[1] * 4)
    model = net.model(second)
    delta = np.array([1, 2, 3], np.float32)
    changed = corrected(model, FormCorrections("u8s8", (correction("first", "first.w", delta),), ()))
    assert changed.graph.node[0].input[2] != changed.graph.node[1].input[2] == "first.b"


def test_a_corrected_int8_model_is_off_by_the_correction(tmp_path: Path) -> None:
    reference, _, table = ready(classifier(), tmp_path)
    delta = np.arange(10, dtype=np.float32)
    corrections = FormCorrections("u8s8-paired", (correction("logits", "fc.w", delta),), ())
    quantize(reference, table, "u8s8-paired", tmp_path / "plain.onnx")
    info = quantize(reference, table, "u8s8-paired", tmp_path / "corrected.onnx", corrections)
    sample = pictures(1)[0]
    before, after = (
        np.log(run(tmp_path / name, ["probabilities"], sample)[0][0].astype(np.float64))
        for name in ("plain.onnx", "corrected.onnx")
    )
    moved = after - before
    np.testing.assert_allclose(moved - moved[0], delta, atol=0.01)
    run(tmp_path / "corrected.onnx", ["probabilities"], sample, tmp_path / "optimized.onnx")
    assert "QGemm" in optimized_kinds(tmp_path / "optimized.onnx").values(), "the corrected bias is still an INT8 one"
    assert info.float_nodes == ()


def test_an_excluded_layer_runs_in_float_and_says_why(tmp_path: Path) -> None:
    reference, _, table = ready(classifier(), tmp_path)
    corrections = FormCorrections("u8s8", (), (correction("wide", "wide.w"),))
    info = quantize(reference, table, "u8s8", tmp_path / "int8.onnx", corrections)
    counts = ENGINE.load(tmp_path / "int8.onnx", LoadOptions("int8", threads=1)).node_counts()
    assert info.float_nodes == ("wide_node: excluded: its own SQNR of 7.5 dB is below the limit",)
    assert "wide_node" not in info.int8_nodes
    assert (counts.int8, counts.quantizable) == (4, 5)
    assert len(counts.fallbacks) == 1
    assert "excluded: its own SQNR of 7.5 dB" in counts.fallbacks[0]


def test_of_two_layers_with_one_weight_only_the_excluded_one_runs_in_float(tmp_path: Path) -> None:
    net = NetworkBuilder()
    first = net.node("Relu", [net.convolution("image", "first", 3, 3)], "first.relu")
    second = net.node("Conv", [first, "first.w"], "second", kernel_shape=[3, 3], pads=[1] * 4)
    third = net.convolution(net.node("Relu", [second], "second.relu"), "third", 3, 4)
    reference, _, table = ready(net.model(third), tmp_path)
    info = quantize(
        reference,
        table,
        "u8s8",
        tmp_path / "int8.onnx",
        FormCorrections("u8s8", (), (correction("second", "first.w"),)),
    )
    run(tmp_path / "int8.onnx", ["third"], pictures(1)[0], tmp_path / "optimized.onnx")
    kinds = list(optimized_kinds(tmp_path / "optimized.onnx").values())
    assert kinds.count("QLinearConv") == 2
    assert len(info.int8_nodes) == 2


def test_a_tensor_behind_an_excluded_layer_keeps_the_scale_that_it_shared(tmp_path: Path) -> None:
    net = NetworkBuilder()
    first = net.node("Relu", [net.convolution("image", "first", 3, 4)], "first.relu")
    pooled = net.node("MaxPool", [first], "pooled", kernel_shape=[2, 2], strides=[2, 2])
    model = net.model(net.convolution(pooled, "second", 4, 4))
    reference, graph, table = ready(model, tmp_path)
    assert "pooled" not in graph.activations
    quantize(reference, table, "u8s8", tmp_path / "whole.onnx")
    quantize(
        reference, table, "u8s8", tmp_path / "int8.onnx", FormCorrections("u8s8", (), (correction("first", "first.w"),))
    )
    stored = [
        {item.name: numpy_helper.to_array(item) for item in onnx.load(tmp_path / name).graph.initializer}
        for name in ("whole.onnx", "int8.onnx")
    ]
    assert stored[1]["pooled_scale"] == stored[0]["first.relu_scale"]
    exact = run(reference, ["second"], pictures(1)[0])[0]
    assert np.abs(run(tmp_path / "int8.onnx", ["second"], pictures(1)[0])[0] - exact).max() < 0.05 * np.abs(exact).max()


def test_a_relu_whose_range_is_tied_to_a_tensor_below_zero_still_rectifies(tmp_path: Path) -> None:
    net = NetworkBuilder()
    rectified = net.node("Relu", [net.convolution("image", "first", 3, 8)], "first.relu")
    joined = net.node("Concat", [rectified, net.convolution("image", "second", 3, 8)], "joined", axis=1)
    reference, graph, table = ready(net.model(net.convolution(joined, "third", 16, 4)), tmp_path)
    assert ("first.relu", "second", "joined") in graph.ties
    rows = {row.tensor: row for row in table.activations}
    lowest = min(rows["first.relu"].lo, rows["second"].lo)
    assert lowest < 0
    highest = max(rows["first.relu"].hi, rows["second"].hi)
    tied = tuple(
        replace(row, lo=lowest, hi=highest) if row.tensor in ("first.relu", "second", "joined") else row
        for row in table.activations
    )
    quantize(reference, replace(table, activations=tied), "u8s8-paired", tmp_path / "int8.onnx")
    sample = pictures(1)[0]
    exact, found = (run(path, ["third"], sample)[0] for path in (reference, tmp_path / "int8.onnx"))
    assert np.abs(found - exact).mean() < 0.05 * np.abs(exact).mean()
