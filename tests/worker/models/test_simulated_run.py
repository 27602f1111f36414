"""Simulated quantized networks: what the engine computes, and sums that do not depend on how samples are dealt out."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from tests.worker.onnx_networks import NetworkBuilder, calibrated, pictures, saved

from quantfleet_domain.calibration.correction import (
    CHECKPOINTS,
    FP32,
    Corrections,
    FormCorrections,
    checkpoint,
    quantity,
)
from quantfleet_domain.calibration.graph import CalibrationGraph, Layer, NumericsClass
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.calibration.sums import Sums, SumsAccumulator, merge_sums
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.onnx_model import inspect
from quantfleet_worker.models.simulated_graph import SimulatedGraph
from quantfleet_worker.models.simulated_run import SimulatedRun, candidates, first_stage, later_stage
from quantfleet_worker.quantizers.onnx_qdq import quantize
from quantfleet_worker.quantizers.simulation import forms_of, simulated

SAMPLES = 6
FORMS = ("u8s8", "u8s8-paired")
NUMERICS = NumericsClass("onnxruntime-cpu", "1", "test", "0" * 64, "recipe", "none", 1)


@dataclass(frozen=True)
class Ready:
    reference: Path
    model: ModelProto
    graph: CalibrationGraph
    table: ScaleTable


def branched() -> ModelProto:
    """No bias, a shared weight, depthwise and grouped convolutions, a residual Add, a Gemm with factors, two outputs.

    A weight in nine is large, so that rounding moves the means of the others' sums.
    """
    net = NetworkBuilder(seed=3)
    stem = net.node("Relu", [net.convolution("image", "stem", 3, 8, bias=False)], "stem.relu")
    pooled = net.node("MaxPool", [stem], "pooled", kernel_shape=[2, 2], strides=[2, 2])
    first = net.node("Relu", [net.convolution(pooled, "first", 8, 8)], "first.relu")
    second = net.node("Conv", [first, "first.w"], "second", kernel_shape=[3, 3], pads=[1] * 4)
    limits = [net.constant("zero", np.float32(0)), net.constant("six", np.float32(6))]
    deep = net.node("Clip", [net.convolution(second, "deep", 8, 8, group=8), *limits], "deep.relu6")
    grouped = net.convolution(deep, "grouped", 8, 8, group=2)
    total = net.node("Relu", [net.node("Add", [grouped, pooled], "sum")], "sum.relu")
    net.convolution(total, "map", 8, 4, kernel=1)
    flat = net.node("Flatten", [net.node("GlobalAveragePool", [total], "averaged")], "flat")
    weight = net.generator.standard_normal((10, 8)).astype(np.float32)
    inputs = [flat, net.constant("scores.w", weight), net.constant("scores.c", np.ones(10, np.float32))]
    net.node("Gemm", inputs, "scores", transB=1, alpha=0.5, beta=2.0)
    for tensor in net.weights:
        if len(tensor.dims) == 4:
            values = onnx.numpy_helper.to_array(tensor).copy()
            values.reshape(-1)[::9] *= 8
            tensor.CopyFrom(onnx.numpy_helper.from_array(values / 3, tensor.name))
    model = net.model("scores")
    model.graph.output.append(helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, 4, 16, 16]))
    return model


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Ready:
    folder = tmp_path_factory.mktemp("branched")
    content, graph = inspect(saved(branched(), folder), {"image": (1, 3, 32, 32)})
    reference = folder / "reference.onnx"
    reference.write_bytes(content)
    return Ready(reference, onnx.load(reference), graph, calibrated(reference, graph, pictures(SAMPLES)))


def summed(run: SimulatedRun, samples: Sequence[int]) -> Sums:
    added = SumsAccumulator(NUMERICS, "subject", run.exponents)
    for index in samples:
        added.add(index, str(index), run.quantities({"image": pictures(SAMPLES)[index]}))
    return added.sums()


@pytest.fixture(scope="module")
def first(ready: Ready) -> Sums:
    return summed(first_stage(ready.model, ready.graph, ready.table, FORMS), range(SAMPLES))


@pytest.fixture(scope="module")
def settled(ready: Ready, first: Sums) -> Corrections:
    found = Corrections.first(first, ready.graph, FORMS, ready.table.sha256, None)
    for stage in range(1, CHECKPOINTS + 1):
        run = later_stage(ready.model, ready.graph, ready.table, FORMS, found, stage)
        found = found.refined(summed(run, range(SAMPLES)))
    return found


@pytest.fixture(scope="module")
def single(ready: Ready) -> list[Sums]:
    """The sums of every sample alone, each from a session of its own."""
    return [summed(first_stage(ready.model, ready.graph, ready.table, FORMS), [index]) for index in range(SAMPLES)]


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(SAMPLES)), cuts=st.sets(st.integers(1, SAMPLES - 1)))
def test_sums_dealt_out_in_any_way_give_the_same_corrections(
    ready: Ready, first: Sums, single: list[Sums], order: list[int], cuts: set[int]
) -> None:
    edges = [0, *sorted(cuts), SAMPLES]
    shards = [order[low:high] for low, high in itertools.pairwise(edges)]
    merged = merge_sums([merge_sums([single[index] for index in shard]) for shard in shards])
    found, whole = (
        Corrections.first(sums, ready.graph, FORMS, ready.table.sha256, None).to_json() for sums in (merged, first)
    )
    assert found == whole


def test_every_layer_has_its_means_and_errors_in_every_form(ready: Ready, first: Sums) -> None:
    assert {layer.output for layer in ready.graph.layers} == {
        "stem", "first", "second", "deep", "grouped", "map", "scores"
    }  # fmt: skip
    for layer in ready.graph.layers:
        channels = first.mean(quantity("mean", FP32, layer.output)).size
        assert first.mean(quantity("signal", FP32, layer.output)).size == 1
        for form in FORMS:
            assert first.mean(quantity("mean", form, layer.output)).size == channels
            assert first.mean(quantity("error", form, layer.output))[0] > 0


def test_the_quantities_are_those_of_the_network_itself(ready: Ready, first: Sums) -> None:
    names = [layer.output for layer in ready.graph.layers]
    model = ModelProto.FromString(ready.model.SerializeToString())
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    runs = [session.run(names, {"image": sample}) for sample in pictures(SAMPLES)]
    for name, values in zip(names, zip(*runs, strict=True), strict=True):
        every = np.stack([np.asarray(value, np.float64) for value in values])
        means = every.mean(axis=tuple(axis for axis in range(every.ndim) if axis != 2))
        np.testing.assert_allclose(first.mean(quantity("mean", FP32, name)), means, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(first.mean(quantity("signal", FP32, name)), (every**2).mean(), rtol=1e-4)


def test_an_error_is_the_squared_distance_of_a_layer_from_its_twin(ready: Ready, first: Sums) -> None:
    """The stem reads the picture: its twin can be computed by hand."""
    form = simulated("u8s8", ready.model, ready.graph, ready.table)
    parameters = form.activations["image"]
    scale, zero = float(parameters.scale), int(parameters.zero_point)
    weight = onnx.numpy_helper.to_array(next(i for i in ready.model.graph.initializer if i.name == "stem.w"))
    errors, shifts = [], []
    for sample in pictures(SAMPLES):
        rounded = (np.clip(np.rint(sample / np.float32(scale)) + zero, 0, 255) - zero) * scale
        difference = _convolved(rounded, form.weights["stem"]) - _convolved(sample, weight)
        errors.append((difference**2).mean())
        shifts.append(difference.mean(axis=(1, 2)))
    assert first.mean(quantity("error", "u8s8", "stem"))[0] == pytest.approx(np.mean(errors), rel=1e-3)
    shift = first.mean(quantity("mean", "u8s8", "stem")) - first.mean(quantity("mean", FP32, "stem"))
    np.testing.assert_allclose(shift, np.mean(shifts, axis=0), atol=1e-5)


def _convolved(picture: NDArray[np.floating[Any]], weight: NDArray[np.float32]) -> NDArray[np.float64]:
    padded = np.pad(picture[0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.asarray(np.einsum("chwkl,ockl->ohw", windows, weight.astype(np.float64)))


@pytest.mark.parametrize("form", FORMS)
def test_corrections_bring_the_means_at_every_checkpoint_back(ready: Ready, settled: Corrections, form: str) -> None:
    for stage in range(1, CHECKPOINTS + 1):
        before, after = (
            summed(later_stage(ready.model, ready.graph, ready.table, (form,), item, stage), range(SAMPLES))
            for item in (settled.without_deltas(), settled)
        )
        for layer in checkpoint(ready.graph, stage):
            wanted = np.array(settled.means[layer.output])
            distances = [
                np.abs(sums.mean(quantity("mean", form, layer.output)) - wanted).sum() for sums in (before, after)
            ]
            assert distances[1] < 0.5 * distances[0], layer.output


@pytest.mark.parametrize("exclude", [(), ("second", "deep")])
def test_the_simulation_computes_what_the_engine_computes(
    ready: Ready, settled: Corrections, exclude: tuple[str, ...], tmp_path: Path
) -> None:
    of_form = settled.of("u8s8-paired")
    corrections = FormCorrections(
        of_form.form,
        tuple(item for item in of_form.layers if item.layer not in exclude),
        tuple(item for item in of_form.layers if item.layer in exclude),
    )
    quantize(ready.reference, ready.table, "u8s8-paired", tmp_path / "int8.onnx", corrections)
    engine = ort.InferenceSession(tmp_path / "int8.onnx", providers=["CPUExecutionProvider"])
    run = later_stage(
        ready.model, ready.graph, ready.table, ("u8s8-paired",), replace(settled, forms=(corrections,)), CHECKPOINTS
    )
    for sample in pictures(SAMPLES):
        found = run.quantities({"image": sample})[quantity("mean", "u8s8-paired", "scores")]
        wanted = np.asarray(engine.run(["scores"], {"image": sample})[0])[0]
        assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()


def test_forms_that_agree_are_computed_once(ready: Ready) -> None:
    layers, counts = ready.graph.layers, []
    form = simulated("u8s8", ready.model, ready.graph, ready.table)
    for forms in ([form], [form, replace(form, name="the same")]):
        built = SimulatedGraph(ready.model)
        network = built.network(layers, None)
        for layer in layers:
            for item in forms:
                built.mean(str(built.difference(layer, item, network)), layer)
        counts.append(len(built.model().graph.node))
    assert counts[0] == counts[1]


def test_only_what_the_checkpoint_needs_is_run(ready: Ready, settled: Corrections) -> None:
    built = SimulatedGraph(ready.model)
    built.network(checkpoint(ready.graph, 1), None)
    kinds = [node.op_type for node in built.model().graph.node]
    assert kinds.count("Conv") == checkpoint(ready.graph, 1)[0].depth
    assert "Gemm" not in kinds


def test_a_layer_that_is_left_in_float_has_no_drift_of_its_own(ready: Ready, settled: Corrections) -> None:
    of_form = settled.of("u8s8")
    last = tuple(item for item in of_form.layers if item.layer in ("map", "scores"))
    corrections = replace(settled, forms=(FormCorrections("u8s8", (), last),))
    run = later_stage(ready.model, ready.graph, ready.table, ("u8s8",), corrections, CHECKPOINTS)
    assert run.exponents == {}
    assert run.quantities({"image": pictures(1)[0]}) == {}


def test_a_subgraph_reads_what_it_captures_from_the_quantized_network() -> None:
    net = NetworkBuilder()
    layer = net.convolution("image", "layer", 3, 4)
    then, other = (
        helper.make_graph(
            [helper.make_node(kind, [layer], [f"{kind}.out"])],
            kind,
            [],
            [helper.make_tensor_value_info(f"{kind}.out", TensorProto.FLOAT, None)],
        )
        for kind in ("Relu", "Neg")
    )
    net.node("If", [net.constant("always", np.array(True))], "chosen", then_branch=then, else_branch=other)
    last = net.convolution("chosen", "last", 4, 4)
    model = net.model(last, shape=(1, 3, 32, 32))
    built = SimulatedGraph(model)
    end = Layer("last", "last.w", 2, True)
    name = built.mean(built.network([end], None)["last"], end)
    sample = pictures(1)[0]
    found, wanted = (
        ort.InferenceSession(item.SerializeToString(), providers=["CPUExecutionProvider"]).run([out], {"image": sample})
        for item, out in ((built.model(), name), (model, "last"))
    )
    np.testing.assert_allclose(np.asarray(found[0])[0, :, 0, 0], np.asarray(wanted[0])[0].mean(axis=(1, 2)), atol=1e-5)


def test_of_two_candidates_the_one_that_clips_has_the_larger_error(ready: Ready) -> None:
    rows = tuple(replace(row, lo=row.lo / 8, hi=row.hi / 8) for row in ready.table.activations)
    run = candidates(ready.model, ready.graph, [ready.table, replace(ready.table, activations=rows), ready.table])
    sums = summed(run, range(SAMPLES))
    for layer in ("map", "scores"):
        fine, clipped, again = (sums.mean(quantity("error", str(index), layer))[0] for index in range(3))
        assert 0 < fine == again < clipped
        assert fine < 0.1 * sums.mean(quantity("signal", FP32, layer))[0]


def test_samples_far_beyond_the_calibrated_ranges_are_still_added_up(ready: Ready) -> None:
    run = first_stage(ready.model, ready.graph, ready.table, FORMS)
    added = SumsAccumulator(NUMERICS, "subject", run.exponents)
    added.add(0, "bright", run.quantities({"image": 100 * pictures(1)[0]}))
    assert added.sums().samples == {0}


def test_a_runtime_without_a_simulated_form_is_refused_by_name() -> None:
    assert forms_of(("onnx", "paddle")) == ("u8s8", "u8s8-paired", "s8-symmetric", "s8-symmetric-headroom")
    with pytest.raises(QuantfleetError, match="ncnn") as caught:
        forms_of(("onnx", "ncnn"))
    assert caught.value.code is ErrorCode.SCALES_INVALID


def test_a_paddle_form_leaves_the_products_of_a_convolutional_model_in_float(ready: Ready) -> None:
    form = simulated("s8-symmetric", ready.model, ready.graph, ready.table)
    assert set(form.weights) == {"stem", "first", "second", "deep", "grouped", "map"}
    assert form.activations["stem.relu"].zero_point.dtype == np.uint8
    assert form.activations["image"].zero_point.dtype == np.int8
    assert not {"grouped", "flat", "scores", "map"} & set(form.activations), "the sum is fused, the head is in float"
    assert form.activations["averaged"] == form.activations["sum.relu"], "codes are averaged"
    wide = simulated("s8-symmetric-headroom", ready.model, ready.graph, ready.table)
    assert form.activations["pooled"] == form.activations["stem.relu"]
    assert 1 < wide.activations["pooled"].scale / form.activations["pooled"].scale <= 255 / 126
    assert wide.activations["image"] == form.activations["image"]
    run = first_stage(ready.model, ready.graph, ready.table, ("s8-symmetric",))
    sums = summed(run, [0])
    assert sums.mean(quantity("error", "s8-symmetric", "scores"))[0] == 0
    fp32, float_layer = (sums.mean(quantity("mean", form, "scores")) for form in (FP32, "s8-symmetric"))
    np.testing.assert_array_equal(fp32, float_layer)
