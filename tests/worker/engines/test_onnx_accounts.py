"""What both ONNX engines say ran in INT8, fell back and was converted, of our models and of models from elsewhere."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from tests.worker.onnx_networks import NetworkBuilder, calibrated, classifier, pictures, saved

from quantfleet_domain.jobs.measured import Conversion
from quantfleet_worker.engines import onnxruntime_cpu, openvino_cpu
from quantfleet_worker.engines.base import Engine, LoadOptions, NodeCounts
from quantfleet_worker.engines.onnxruntime_profile import Profile
from quantfleet_worker.models.onnx_model import inspect
from quantfleet_worker.quantizers.onnx_qdq import quantize

ORT, OPENVINO = onnxruntime_cpu.ENGINE, openvino_cpu.ENGINE
both = pytest.mark.parametrize("engine", [ORT, OPENVINO], ids=lambda engine: engine.name)


class Pictures(CalibrationDataReader):  # type: ignore[misc] # onnxruntime publishes no types
    def __init__(self) -> None:
        self._feeds = iter([{"image": picture} for picture in pictures(4)])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._feeds, None)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    content, graph = inspect(saved(classifier(), folder), {})
    (folder / "fp32.onnx").write_bytes(content)
    quantize(folder / "fp32.onnx", calibrated(folder / "fp32.onnx", graph, pictures(4)), "u8s8", folder / "u8s8.onnx")
    return folder


def counted(engine: Engine, model: Path, precision: str = "int8") -> NodeCounts:
    session = engine.load(model, LoadOptions(precision, threads=1))
    session.run({"image": pictures(1)[0]})
    return session.node_counts()


def elsewhere(models: Path, name: str, *, activation: QuantType, weight: QuantType, **options: Any) -> Path:
    """The classifier, quantized by onnxruntime's own static quantizer."""
    out = models / f"{name}.onnx"
    quantize_static(
        models / "fp32.onnx", out, Pictures(), activation_type=activation, weight_type=weight, **options
    )  # fmt: skip
    return out


def conversions(counts: NodeCounts) -> dict[str, int]:
    return {item.operator: item.count for item in counts.conversions}


@both
def test_everything_that_was_quantized_ran_in_int8(models: Path, engine: Engine) -> None:
    counts = counted(engine, models / "u8s8.onnx")
    assert (counts.int8, counts.quantizable, counts.fallbacks) == (5, 5, ())
    assert counts.ran == (
        "stem_node (Conv)",
        "deep_node (Conv)",
        "wide_node (Conv)",
        "side_node (Conv)",
        "logits_node (Gemm)",
    )


@both
def test_matrix_products_that_follow_each_other_are_accounted_for(tmp_path: Path, engine: Engine) -> None:
    net = NetworkBuilder()
    flat = net.node("Flatten", [net.node("GlobalAveragePool", ["image"], "averaged")], "flat")
    weights = [net.generator.standard_normal(shape).astype(np.float32) for shape in ((3, 32), (32, 10))]
    hidden = net.node("Relu", [net.node("MatMul", [flat, net.constant("w", weights[0])], "first")], "hidden")
    model = net.model(net.node("MatMul", [hidden, net.constant("v", weights[1])], "second"))
    content, graph = inspect(saved(model, tmp_path), {})
    (tmp_path / "fp32.onnx").write_bytes(content)
    table = calibrated(tmp_path / "fp32.onnx", graph, pictures(4))
    quantize(tmp_path / "fp32.onnx", table, "u8s8", tmp_path / "u8s8.onnx")
    assert counted(engine, tmp_path / "u8s8.onnx").ran == ("first_node (MatMul)", "second_node (MatMul)")


@both
def test_a_float_model_has_quantizable_nodes_and_nothing_else(models: Path, engine: Engine) -> None:
    counts = counted(engine, models / "fp32.onnx", "fp32")
    assert (counts.int8, counts.quantizable, counts.fallbacks, counts.ran) == (0, 5, (), ())


def test_nodes_around_a_tensor_without_range_fall_back_with_their_reasons(models: Path, tmp_path: Path) -> None:
    model = onnx.load(models / "u8s8.onnx")
    node = next(item for item in model.graph.node if item.name == "wide_node")
    node.input[0] = "deep.relu6"
    path = saved(model, tmp_path)
    wide = "wide_node (Conv): its input 'deep.relu6' has no range in the model"
    assert counted(ORT, path).fallbacks == ("deep_node (Conv): its output is used unquantized", wide)
    assert counted(OPENVINO, path).fallbacks == (wide,)


@both
def test_a_weight_in_float_is_the_reason(models: Path, tmp_path: Path, engine: Engine) -> None:
    model = onnx.load(models / "fp32.onnx")
    onnx.save(model, tmp_path / "fp32.onnx")
    out = tmp_path / "part.onnx"
    quantize_static(tmp_path / "fp32.onnx", out, Pictures(), nodes_to_exclude=["side_node"])
    (fallback,) = [item for item in counted(engine, out).fallbacks if item.startswith("side_node")]
    assert fallback == "side_node (Conv): its weight is in float in the model"


def test_conversions_of_onnxruntime_are_counted_with_their_shares(models: Path) -> None:
    int8, fp32 = counted(ORT, models / "u8s8.onnx"), counted(ORT, models / "fp32.onnx", "fp32")
    # Of the image, once; of the layout, before the first convolution and behind the pooling.
    assert conversions(int8) == {"QuantizeLinear": 1, "Transpose": 2}
    assert set(conversions(fp32)) <= {"ReorderInput", "ReorderOutput"}
    shares = [item.time_share for item in int8.conversions]
    assert all(share is not None and 0 <= share < 1 for share in shares)


def test_conversions_of_openvino_are_counted_with_their_shares(models: Path) -> None:
    int8 = counted(OPENVINO, models / "u8s8.onnx")
    kinds = conversions(int8)
    assert sum(count for kind, count in kinds.items() if "uantize" in kind) == 1
    assert all(item.time_share is not None and 0 <= item.time_share < 1 for item in int8.conversions)


def test_the_first_run_of_a_profile_is_left_out(tmp_path: Path) -> None:
    def kernel(operator: str, start: int, duration: int) -> dict[str, Any]:
        return {"name": f"{operator}_kernel_time", "ts": start, "dur": duration, "args": {"op_name": operator}}

    events: list[dict[str, Any]] = []
    for start, preparing in ((0, 900), (1000, 0)):
        events += [kernel("ReorderInput", start + 1, 1 + preparing), kernel("Conv", start + 2, 3)]
        events.append({"name": "model_run", "ts": start, "dur": 4 + preparing})
    (tmp_path / "trace.json").write_text(json.dumps(events))
    assert Profile(tmp_path / "trace.json", runs=1).conversions(()) == (Conversion("ReorderInput", 1, 0.25),)


def test_a_transpose_of_the_model_is_no_conversion(tmp_path: Path) -> None:
    net = NetworkBuilder()
    turned = net.node("Transpose", ["image"], "turned", perm=[0, 2, 3, 1])
    path = saved(net.model(net.node("Relu", [turned], "positive")), tmp_path)
    for engine in (ORT, OPENVINO):
        assert conversions(counted(engine, path, "fp32")) == {}


@both
def test_qdq_of_onnxruntimes_own_quantizer_runs(models: Path, engine: Engine) -> None:
    path = elsewhere(models, "qdq", activation=QuantType.QUInt8, weight=QuantType.QInt8)
    counts = counted(engine, path)
    assert (counts.int8, counts.quantizable, counts.fallbacks) == (5, 5, ())


def test_s8_activations_fall_back_in_onnxruntime_and_name_their_form(models: Path) -> None:
    path = elsewhere(
        models,
        "s8s8",
        activation=QuantType.QInt8,
        weight=QuantType.QInt8,
        per_channel=True,
        extra_options={"ActivationSymmetric": True},
    )
    counts = counted(ORT, path)
    assert 0 < counts.int8 < counts.quantizable == 5
    assert len(counts.ran) == counts.int8
    assert len(counts.fallbacks) == 5 - counts.int8
    assert any("s8 input, s8 weight" in item for item in counts.fallbacks)
    assert counted(OPENVINO, path).int8 == 5


def test_openvino_computes_u8_weights_in_float(models: Path) -> None:
    path = elsewhere(models, "u8u8", activation=QuantType.QUInt8, weight=QuantType.QUInt8)
    counts = counted(OPENVINO, path)
    assert (counts.int8, counts.quantizable) == (0, 5)
    assert all("OpenVINO computes it in float" in item and "u8 weight" in item for item in counts.fallbacks)
    assert counted(ORT, path).int8 == 5


def test_qoperator_files_are_accounted_for_by_onnxruntime(models: Path) -> None:
    path = elsewhere(
        models, "qop", activation=QuantType.QUInt8, weight=QuantType.QInt8, quant_format=QuantFormat.QOperator
    )
    counts = counted(ORT, path)
    assert (counts.int8, counts.quantizable) == (5, 5)
    assert counts.ran[0] == "stem_node_quant (QLinearConv)"


def test_dynamic_files_run_in_onnxruntime_and_not_in_openvino(models: Path) -> None:
    path = models / "dynamic.onnx"
    quantize_dynamic(models / "fp32.onnx", path, weight_type=QuantType.QUInt8)
    counts = counted(ORT, path)
    assert (counts.int8, counts.quantizable) == (5, 5)
    assert conversions(counts)["DynamicQuantizeLinear"] == 4
    counts = counted(OPENVINO, path)
    assert (counts.int8, counts.quantizable) == (0, 5)
    assert "stem_node_quant (ConvInteger): OpenVINO computes it in float" in counts.fallbacks[0]


@both
def test_nodes_without_names_are_known_by_their_outputs(models: Path, tmp_path: Path, engine: Engine) -> None:
    model = onnx.load(models / "u8s8.onnx")
    for node in model.graph.node:
        node.name = ""
    counts = counted(engine, saved(model, tmp_path))
    assert (counts.int8, counts.quantizable) == (5, 5)
    assert all(item[0] not in ". " for item in counts.ran)
