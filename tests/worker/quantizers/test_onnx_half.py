"""The FP16 copy of a QDQ model computes the INT8 model's answers: both really run, in ONNX Runtime on the CPU."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from tests.worker.onnx_networks import calibrated, classifier, pictures, saved

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.onnx_model import inspect
from quantfleet_worker.quantizers.onnx_float_biases import with_float_biases
from quantfleet_worker.quantizers.onnx_half import converted
from quantfleet_worker.quantizers.onnx_qdq import SYMMETRIC, quantize


class Pictures(CalibrationDataReader):  # type: ignore[misc] # onnxruntime publishes no types
    def __init__(self) -> None:
        self._feeds = iter([{"image": picture} for picture in pictures(4)])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._feeds, None)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`fp32.onnx`, `int8.onnx` in our form for TensorRT, and `elsewhere.onnx` from another quantizer, whose biases are
    in int32."""
    folder = tmp_path_factory.mktemp("models")
    content, graph = inspect(saved(classifier(), folder), {})
    floating = folder / "fp32.onnx"
    floating.write_bytes(content)
    quantize(floating, calibrated(floating, graph, pictures(4)), SYMMETRIC, folder / "int8.onnx")
    quantize_static(
        floating,
        folder / "elsewhere.onnx",
        Pictures(),
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
    )
    return folder


def answers(model: Path) -> NDArray[np.float32]:
    """As the graph says, node by node: fusing would compute it in other ways."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": picture})[0] for picture in pictures(8)])


def half_of(model: Path, tmp_path: Path) -> Path:
    return converted(with_float_biases(model, tmp_path), tmp_path)


@pytest.mark.parametrize("name", ["int8", "elsewhere"])
def test_the_copy_answers_as_the_int8_model_does(models: Path, tmp_path: Path, name: str) -> None:
    floating, int8 = (answers(models / f"{which}.onnx") for which in ("fp32", name))
    half = answers(half_of(models / f"{name}.onnx", tmp_path))
    assert np.abs(int8 - floating).max() > 0.01, "the INT8 model has to differ from FP32 for this to say anything"
    assert np.abs(half - int8).max() < 0.5 * np.abs(int8 - floating).max()
    assert (half.argmax(axis=1) == int8.argmax(axis=1)).all()


@pytest.mark.parametrize("name", ["int8", "elsewhere"])
def test_what_is_quantized_stays_so_and_the_rest_is_in_half(models: Path, tmp_path: Path, name: str) -> None:
    source = with_float_biases(models / f"{name}.onnx", tmp_path)
    before, after = onnx.load(source), onnx.load(converted(source, tmp_path))
    onnx.checker.check_model(after, full_check=True)
    kinds = [Counter(node.op_type for node in model.graph.node) for model in (before, after)]
    assert kinds[1] - kinds[0] == Counter({"Cast": 2}), "one cast in, one cast out"
    assert not kinds[0] - kinds[1]
    types = Counter(item.data_type for item in after.graph.initializer)
    assert types.keys() <= {TensorProto.FLOAT16, TensorProto.INT8, TensorProto.INT64}
    ends = [*after.graph.input, *after.graph.output]
    assert {item.type.tensor_type.elem_type for item in ends} == {TensorProto.FLOAT}


def test_a_float_model_in_half_answers_nearly_the_same(models: Path, tmp_path: Path) -> None:
    halved = answers(converted(models / "fp32.onnx", tmp_path))
    assert 0 < np.abs(halved - answers(models / "fp32.onnx")).max() < 0.01


def test_int32_biases_become_float_without_a_change_of_the_answer(models: Path, tmp_path: Path) -> None:
    source = models / "elsewhere.onnx"
    content = onnx.load(source)
    integers = [item for item in content.graph.initializer if item.data_type == TensorProto.INT32 and item.dims]
    assert integers, "this quantizer writes its biases as int32"
    copy = with_float_biases(source, tmp_path)
    readers = {name for node in onnx.load(copy).graph.node for name in node.input}
    assert not readers & {item.name for item in integers}
    np.testing.assert_allclose(answers(copy), answers(source), atol=1e-6)
    assert with_float_biases(models / "int8.onnx", tmp_path) == models / "int8.onnx"


def test_an_activation_scale_that_half_cannot_hold_is_refused(models: Path, tmp_path: Path) -> None:
    content = onnx.load(models / "int8.onnx")
    node = next(item for item in content.graph.node if item.op_type == "QuantizeLinear")
    scale = next(item for item in content.graph.initializer if item.name == node.input[1])
    scale.CopyFrom(numpy_helper.from_array(np.full(scale.dims, 1e-6, np.float32), scale.name))
    with pytest.raises(QuantfleetError, match=r"the scale of .* is 1e-06") as caught:
        converted(saved(content, tmp_path), tmp_path)
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED
    assert "int8+fp16" in caught.value.todo


def test_a_model_that_onnx_cannot_bring_to_a_new_opset_is_refused(models: Path, tmp_path: Path) -> None:
    content = onnx.load(models / "int8.onnx")
    content.opset_import[0].version = 1
    with pytest.raises(QuantfleetError, match="is of opset 1; FP16 scales need 19") as caught:
        converted(saved(content, tmp_path), tmp_path)
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED
