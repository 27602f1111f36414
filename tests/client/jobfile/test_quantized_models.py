"""A model that is quantized already is known by its file's operators, whoever wrote it, and is measured as it is."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.worker.paddle.conftest import SHAPE, export, network
from tests.worker.paddle.test_paddle_given import post_training

from quantfleet.jobfile.document import default_precisions, read_text
from quantfleet.jobfile.models import ModelFiles
from quantfleet.jobfile.prepare import PreparedJob, prepare
from quantfleet.jobfile.quantized import is_quantized
from quantfleet.jobfile.quantizing import STATIC, QuantizationPart
from quantfleet_domain.errors import ErrorCode, QuantfleetError

HEAD = "apiVersion: quantfleet/v1\nkind: Job\nname: a\nmodel: {path: slim}\n"
CONSTANTS = {
    "w": np.ones((4, 2), np.float32),
    "codes": np.ones((4, 2), np.int8),
    "scale": np.array(0.1, np.float32),
    "zero": np.array(0, np.uint8),
    "signed": np.array(0, np.int8),
    # As large models have them: a weight's bytes are searched, too, and are no operator.
    "text": np.frombuffer(b"DequantizeLinear QLinearConv fake_quantize_", np.uint8),
}
NODES: dict[str, list[tuple[str, list[str], list[str]]]] = {
    "float": [("Gemm", ["x", "w"], ["y"])],
    "QDQ": [
        ("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        ("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        ("DequantizeLinear", ["codes", "scale", "signed"], ["v"]),
        ("MatMul", ["d", "v"], ["y"]),
    ],
    "QOperator": [
        ("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        ("QLinearMatMul", ["q", "scale", "zero", "codes", "scale", "signed", "scale", "zero"], ["p"]),
        ("DequantizeLinear", ["p", "scale", "zero"], ["y"]),
    ],
    "dynamic": [
        ("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        ("MatMulInteger", ["q", "codes", "z"], ["p"]),
        ("Cast", ["p"], ["y"]),
    ],
}


def onnx_file(kind: str, folder: Path) -> ModelFiles:
    """A matrix product of four numbers by two, in one of the kinds of ONNX models."""
    nodes = [
        helper.make_node(op, given, made, name=f"DequantizeLinear{i}", **({"to": 1} if op == "Cast" else {}))
        for i, (op, given, made) in enumerate(NODES[kind])
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "net.onnx")
    return ModelFiles("onnx", folder, (folder / "net.onnx",))


@pytest.mark.parametrize("kind", NODES)
def test_an_onnx_model_of_any_kind_is_known_by_its_operators_and_not_by_names(kind: str, tmp_path: Path) -> None:
    assert is_quantized(onnx_file(kind, tmp_path)) is (kind != "float")


@pytest.fixture(scope="module")
def float_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(network(), tmp_path_factory.mktemp("float"), (None, *SHAPE[1:]), pir=False)


@pytest.mark.parametrize("onnx_format", [True, False])
def test_a_paddle_program_is_known_in_either_format(float_model: Path, tmp_path: Path, onnx_format: bool) -> None:
    assert not is_quantized(_program(float_model, "inference.pdmodel"))
    model = post_training(float_model, tmp_path, ["conv2d"], onnx_format=onnx_format)
    assert is_quantized(_program(model, "inference.pdmodel"))


def test_a_program_of_paddles_newer_format_is_known_by_its_operators(tmp_path: Path) -> None:
    plain = _program(export(network(), tmp_path, (None, *SHAPE[1:]), pir=True), "inference.json")
    assert not is_quantized(plain)
    (program,) = plain.files
    text = program.read_text()
    assert '"1.relu"' in text
    program.write_text(text.replace('"1.relu"', '"1.dequantize_linear"', 1))
    assert is_quantized(plain)


def _program(folder: Path, name: str) -> ModelFiles:
    return ModelFiles("paddle", folder, (folder / name,))


@pytest.mark.parametrize("name", ["net.onnx", "net.pdmodel", "net.tflite"])
def test_an_empty_or_foreign_file_is_not_quantized(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert not is_quantized(ModelFiles("onnx", tmp_path, (tmp_path / name,)))


@pytest.fixture
def slim(folder: Path) -> Path:
    """The folder with a quantized Paddle model in slim/."""
    (folder / "slim").mkdir()
    (folder / "slim" / "inference.pdmodel").write_bytes(b"\x1a\x11dequantize_linear")
    (folder / "slim" / "inference.pdiparams").write_bytes(b"codes")
    return folder


def prepared(text: str, folder: Path) -> PreparedJob:
    return prepare(read_text(HEAD + text, "job.yaml", folder))


def test_a_quantized_model_is_measured_as_it_is(slim: Path) -> None:
    (model,) = prepared("", slim).spec.models
    assert (model.quantized, model.quantizations, model.given) == (True, ("given",), None)
    assert model.targets[0].precisions == ("int8",)
    assert prepared("quantization: [given]\n", slim).spec.models == (model,)


def test_a_quantized_model_that_a_job_calibrates_is_refused(slim: Path) -> None:
    with pytest.raises(QuantfleetError, match="is quantized already, and the job calibrates it") as caught:
        prepared("calibration: {data: {path: images, preprocess: inference_cls.yaml}}\n", slim)
    assert caught.value.what.startswith("job.yaml:4:15: ")
    assert "FP32" in caught.value.todo


def test_pictures_to_judge_a_quantized_model_by_need_its_configuration_beside_it(slim: Path) -> None:
    evaluate = "evaluate: {data: {path: images, list: val.txt}, metrics: [top1]}\n"
    with pytest.raises(QuantfleetError, match=r"job\.yaml:4:8.*nothing says how it becomes") as caught:
        prepared(evaluate, slim)
    assert caught.value.code is ErrorCode.PREPROCESS_INVALID
    assert "inference_cls.yaml" in caught.value.todo
    (slim / "slim" / "inference_cls.yaml").write_text("PreProcess: {}\n")
    assert prepared(evaluate, slim).spec.models[0].preprocess is not None


def test_a_quantized_model_that_a_job_quantizes_is_refused(slim: Path) -> None:
    with pytest.raises(QuantfleetError, match="is quantized already, and the job quantizes it"):
        prepared("quantization: [dynamic]\n", slim)


@pytest.mark.parametrize(
    ("calibrated", "quantization", "quantized", "precisions"),
    [
        (False, STATIC, False, ("fp32",)),
        (True, STATIC, False, ("fp32", "int8")),
        (False, QuantizationPart(("dynamic",), (), None), False, ("fp32", "int8")),
        (False, QuantizationPart(("given",), (), None), True, ("int8",)),
    ],
)
def test_int8_is_measured_by_default_where_there_is_one_and_fp32_unless_there_is_none(
    calibrated: bool, quantization: QuantizationPart, quantized: bool, precisions: tuple[str, ...]
) -> None:
    assert default_precisions(calibrated, quantization, quantized) == precisions
