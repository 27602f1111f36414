"""Dynamically quantized models: what runs in integers, how near it is to FP32, and the same bytes every time."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from tests.worker.onnx_networks import NetworkBuilder, classifier, pictures, saved

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.base import LoadOptions
from quantfleet_worker.engines.onnxruntime_cpu import ENGINE
from quantfleet_worker.models.onnx_model import inspect
from quantfleet_worker.quantizers.onnx_dynamic import quantize


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    content, _ = inspect(saved(classifier(), tmp_path), {})
    path = tmp_path / "reference.onnx"
    path.write_bytes(content)
    return path


def output(model: Path, precision: str) -> NDArray[np.float32]:
    session = ENGINE.load(model, LoadOptions(precision, threads=1))
    return np.concatenate([next(iter(session.run({"image": picture}).values())) for picture in pictures(5)])


def test_products_and_convolutions_run_in_int8_and_grouped_ones_in_float(reference: Path, tmp_path: Path) -> None:
    model = quantize(reference, tmp_path / "int8.onnx")
    assert model.form == "dynamic"
    assert model.int8_nodes == ("stem_node", "wide_node", "side_node", "logits_node")
    assert [item.split(":")[0] for item in model.float_nodes] == ["deep_node"]
    counts = ENGINE.load(model.path, LoadOptions("int8", threads=1)).node_counts()
    assert (counts.int8, counts.quantizable) == (4, 5)
    assert counts.fallbacks == (
        "deep_node (Conv): a grouped convolution, which onnxruntime computes faster in float than in integers",
    )


def test_it_computes_nearly_what_fp32_computes(reference: Path, tmp_path: Path) -> None:
    quantize(reference, tmp_path / "int8.onnx")
    exact, approximate = output(reference, "fp32"), output(tmp_path / "int8.onnx", "int8")
    assert 0 < np.abs(exact - approximate).max() < 0.05


def test_convolutions_have_a_scale_per_channel_which_matters_where_channels_differ(tmp_path: Path) -> None:
    net = NetworkBuilder()
    path = saved(net.model(net.convolution("image", "wide", 3, 8)), tmp_path)
    model = onnx.load(path)
    weight = numpy_helper.to_array(model.graph.initializer[0]) * np.logspace(0, -3, 8)[:, None, None, None]
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight.astype(np.float32), "wide.w"))
    path = saved(model, tmp_path)
    quantize(path, tmp_path / "ours.onnx")
    quantize_dynamic(path, tmp_path / "theirs.onnx", weight_type=QuantType.QUInt8, per_channel=True)
    exact = output(path, "fp32")[:, -1]
    ours, theirs = (
        np.abs(output(tmp_path / name, "int8")[:, -1] - exact).max() for name in ("ours.onnx", "theirs.onnx")
    )
    assert ours < theirs / 5


def test_the_same_reference_gives_the_same_bytes_with_their_form(reference: Path, tmp_path: Path) -> None:
    first, second = (quantize(reference, tmp_path / name) for name in ("first.onnx", "second.onnx"))
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.sha256 == second.sha256
    metadata = {item.key: item.value for item in onnx.load(first.path).metadata_props}
    assert metadata == {"quantfleet.form": "dynamic", "quantfleet.float": "\n".join(first.float_nodes)}


def test_a_product_that_cannot_be_split_stays_in_float_and_says_so(tmp_path: Path) -> None:
    net = NetworkBuilder()
    flat = net.node("Flatten", [net.node("GlobalAveragePool", ["image"], "averaged")], "flat")
    weight = net.constant("w", net.generator.standard_normal((3, 4)).astype(np.float32))
    first = net.node("Gemm", [flat, weight], "scaled", alpha=2.0)
    other = net.constant("v", net.generator.standard_normal((4, 4)).astype(np.float32))
    path = saved(net.model(net.node("MatMul", [first, other], "scores")), tmp_path)
    model = quantize(path, tmp_path / "int8.onnx")
    assert model.int8_nodes == ("scores_node",)
    assert model.float_nodes == ("scaled_node: onnxruntime has no dynamic form of it with these attributes",)


def test_a_model_with_nothing_to_quantize_is_refused(tmp_path: Path) -> None:
    net = NetworkBuilder()
    path = saved(net.model(net.convolution("image", "each", 3, 3, group=3)), tmp_path)
    with pytest.raises(QuantfleetError, match="nothing to quantize") as caught:
        quantize(path, tmp_path / "int8.onnx")
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED


def test_a_weight_of_two_convolutions_is_quantized_once(tmp_path: Path) -> None:
    net = NetworkBuilder()
    first = net.node("Relu", [net.convolution("image", "first", 3, 3)], "first.relu")
    net.nodes.append(helper.make_node("Conv", [first, "first.w"], ["second"], name="second_node", pads=[1] * 4))
    path = saved(net.model("second"), tmp_path)
    assert quantize(path, tmp_path / "int8.onnx").int8_nodes == ("first_node", "second_node")
    exact, approximate = output(path, "fp32"), output(tmp_path / "int8.onnx", "int8")
    assert np.abs(exact - approximate).max() < 0.05 * np.abs(exact).max()
