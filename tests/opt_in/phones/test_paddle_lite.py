"""Paddle Lite's real `opt` and x86 library, under the interpreter that LITE_PYTHON names. What x86 computes in INT8 is
imprecise, and wrong for matrix products: it stands for no phone."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.worker.paddle.conftest import Calibrated, calibrate, classifier, export, network, pictures
from tests.worker.paddle.test_paddle_given import CONVOLUTIONS, post_training
from tests.worker.phones.lite_models import DATA, make

from quantfleet_domain.calibration.forms import ActivationForm, activation_parameters, weight_scales
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.models.paddle_lite_program import LiteProgram, prepare
from quantfleet_worker.models.paddle_pir import REWRITINGS
from quantfleet_worker.models.paddle_program import PaddleProgram, load_paddle
from quantfleet_worker.phones.export import export_nb
from quantfleet_worker.phones.nb_file import NbFile, read_nb
from quantfleet_worker.phones.opt import OptRequest, convert
from quantfleet_worker.phones.phone import Phone
from quantfleet_worker.phones.session import OnPhone, PhoneSession
from quantfleet_worker.phones.transports.local import LocalTransport
from quantfleet_worker.quantizers import paddle_lite, paddle_onednn

SHAPE = (None, 3, 32, 32)
TARGETS = ("arm", "x86")


@pytest.fixture(scope="session")
def interpreter() -> str:
    found = os.environ.get("LITE_PYTHON", "")
    assert found, "these tests need an interpreter with paddlelite: make test-phones LITE_PYTHON=/path/to/python3.10"
    return found


class Lite:
    def __init__(self, interpreter: str, folder: Path) -> None:
        self.interpreter = interpreter
        self.folder = folder

    def convert(self, model: Path, target: str, weight_bits: int = 0) -> tuple[LiteProgram, bytes]:
        program = prepare(model, self.folder / "prepared")
        return program, convert(self.interpreter, program.files, OptRequest(target, weight_bits), self.folder).content

    def kernels(self, model: Path, target: str, weight_bits: int = 0) -> NbFile:
        return read_nb(self.convert(model, target, weight_bits)[1], "model.nb")

    def session(self, model: Path) -> PhoneSession:
        """The model on this host's own library, threads as it likes."""
        program, content = self.convert(model, "x86")
        (self.folder / "model.nb").write_bytes(content)
        runner = self.folder / "benchmark_bin"
        script = Path(__file__).with_name("lite_runner.py")
        runner.write_text(f'#!/bin/sh\nexec {self.interpreter} {script} "$@"\n')
        runner.chmod(0o755)
        phone = Phone(LocalTransport(str(self.folder)), runner, "high", self.interpreter, target="x86")
        counts = read_nb(content, "model.nb").counts(quantized=True)
        there = (str(self.folder), str(runner), str(self.folder / "model.nb"))
        return PhoneSession(OnPhone(phone, *there, program.inputs, program.outputs, counts), 1, "tried")

    def infer(self, model: Path, images: Any) -> Any:
        session = self.session(model)
        return np.concatenate([next(iter(session.run({"x": image[None]}).values())) for image in images])


@pytest.fixture
def lite(interpreter: str, tmp_path: Path) -> Lite:
    return Lite(interpreter, tmp_path)


def paddle_infers(model: Path, images: Any) -> Any:
    program = PaddleProgram.load(model, find_files(model).stem)
    return program.run({"x": images}, program.fetches)[program.fetches[0]]


@pytest.fixture(scope="module")
def float_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(network(), tmp_path_factory.mktemp("float"), SHAPE, pir=False)


@pytest.fixture(scope="module")
def calibrated(float_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    return calibrate(float_model, tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="module")
def int8_model(float_model: Path, calibrated: Calibrated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paddle_lite.quantize(float_model, calibrated.table, tmp_path_factory.mktemp("int8")).path


def test_the_recorded_files_are_what_opt_makes_today(interpreter: str, tmp_path: Path) -> None:
    for name, content in make(interpreter, tmp_path).items():
        assert read_nb(content, name) == read_nb((DATA / name).read_bytes(), name), name


def test_a_file_tells_the_inputs_and_outputs_of_its_program_in_their_order(lite: Lite, tmp_path: Path) -> None:
    paddle = load_paddle()
    spec = paddle.static.InputSpec
    inputs = [spec([None, 6], "int64", "words"), spec([None, 3, 8, 8], "float32", "picture")]
    with paddle.pir_utils.DygraphOldIrGuard():
        paddle.jit.save(_words_and_picture(), str(tmp_path / "inference"), input_spec=inputs)
    program, content = lite.convert(tmp_path, "arm")
    nb = read_nb(content, "model.nb")
    assert list(nb.inputs) == ["words", "picture"]
    assert list(nb.inputs.items()) == list(program.inputs.items())
    assert list(nb.outputs.items()) == list(program.outputs.items())
    assert [dtype.name for dtype in nb.outputs.values()] == ["int64", "float32"]


def _words_and_picture() -> Any:
    nn = load_paddle().nn

    class Network(nn.Layer):  # type: ignore[name-defined,misc] # paddle's classes are loaded untyped
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.LayerList([nn.Embedding(10, 8), nn.Conv2D(3, 8, 3)])

        def forward(self, words: Any, picture: Any) -> Any:
            embedding, convolution = self.layers
            return words + 1, embedding(words).mean(1) + convolution(picture).mean([2, 3])

    network = Network()
    network.eval()
    return network


@pytest.mark.parametrize("pir", [False, True])
def test_a_float_model_gives_what_paddle_gives(lite: Lite, float_model: Path, tmp_path: Path, pir: bool) -> None:
    model = export(network(), tmp_path / "model", SHAPE, pir=pir)
    images = pictures(3, seed=2)
    np.testing.assert_allclose(lite.infer(model, images), paddle_infers(float_model, images), atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_an_int8_model_has_int8_kernels_with_the_tables_own_scales(
    lite: Lite, int8_model: Path, calibrated: Calibrated, target: str
) -> None:
    found = lite.kernels(int8_model, target)
    counts = found.counts(quantized=True)
    assert (found.targets, counts.int8, counts.quantizable) == ((target,), 3, 4)
    activations = {
        float(activation_parameters(ActivationForm.S8_SYMMETRIC, row.lo, row.hi).scale)
        for row in calibrated.table.activations
    }
    weights = {row.native_name: weight_scales(row.absmax).tolist() for row in calibrated.table.weights}
    for kernel in (kernel for kernel in found.kernels if kernel.operator in ("conv2d", "depthwise_conv2d")):
        scales = dict(kernel.scales)
        assert {*scales["Input0_scale"], *scales.get("Output0_scale", ())} <= activations
        assert list(scales["Filter0_scale"]) == weights[kernel.weight]


def test_fully_connected_layers_run_in_int8_on_arm(lite: Lite, tmp_path: Path) -> None:
    model = export(classifier(), tmp_path / "model", SHAPE, pir=False)
    quantized = paddle_lite.quantize(model, calibrate(model, tmp_path).table, tmp_path / "int8").path
    ran = lite.kernels(quantized, "arm").counts(quantized=True).ran
    assert sorted(name.partition("(")[2] for name in ran) == ["conv2d)", "fc)", "fc)"]


def test_an_int8_model_of_convolutions_comes_near_on_x86(lite: Lite, int8_model: Path, float_model: Path) -> None:
    images = pictures(3, seed=2)
    assert np.abs(lite.infer(int8_model, images) - paddle_infers(float_model, images)).max() < 0.15


@pytest.mark.parametrize("form", paddle_onednn.FORMS)
def test_what_was_quantized_for_onednn_converts_too(
    lite: Lite, float_model: Path, calibrated: Calibrated, tmp_path: Path, form: str
) -> None:
    given = paddle_onednn.quantize(float_model, calibrated.table, form, tmp_path / "given").path
    assert lite.kernels(given, "arm").counts(quantized=True).int8 == 3


@pytest.mark.parametrize("onnx_format", [True, False])
def test_what_paddle_and_paddleslim_quantized_converts(
    lite: Lite, float_model: Path, tmp_path: Path, onnx_format: bool
) -> None:
    given = post_training(float_model, tmp_path / "given", [*CONVOLUTIONS, "matmul_v2"], onnx_format=onnx_format)
    assert lite.kernels(given, "arm").counts(quantized=True).int8 == 4


@pytest.mark.parametrize("bits", [8, 16])
def test_dynamic_quantization_stores_weights_as_integers_and_computes_in_float(
    lite: Lite, float_model: Path, bits: int
) -> None:
    found = lite.kernels(float_model, "arm", bits)
    assert {kernel.weight_bits for kernel in found.kernels if kernel.weight} - {0} == {bits}
    assert found.counts(quantized=True).int8 == 0


def test_a_scale_table_is_exported_as_the_file_that_a_job_makes(
    lite: Lite, float_model: Path, int8_model: Path, calibrated: Calibrated
) -> None:
    content, in_float = export_nb(float_model, calibrated.table, lite.interpreter)
    assert content == lite.convert(int8_model, "arm")[1]
    assert len(in_float) == 1


def test_opt_makes_the_same_bytes_again(lite: Lite, int8_model: Path) -> None:
    assert lite.convert(int8_model, "arm") == lite.convert(int8_model, "arm")


def test_a_program_as_paddle_3_saves_it_aborts_opt_and_its_reason_is_told(
    lite: Lite, float_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(QuantfleetError) as caught:
        convert(lite.interpreter, find_files(float_model), OptRequest("arm"), tmp_path)
    assert caught.value.code is ErrorCode.ENGINE_CRASHED
    assert "SIGABRT" in caught.value.what
    assert "No attributes called threshold found for relu6" in caught.value.what


def single(call: Callable[[Any, Any], Any]) -> Any:
    """One call between others: paddlelite does not give out every tensor that x86 kernels hold."""
    paddle = load_paddle()

    class Single(paddle.nn.Layer):  # type: ignore[name-defined,misc] # paddle's classes are loaded untyped
        def __init__(self) -> None:
            super().__init__()
            self.conv = paddle.nn.Conv2D(3, 4, 3, 1, 1)
            self.norm = paddle.nn.LayerNorm([32, 32])

        def forward(self, x: Any) -> Any:
            return paddle.scale(call(paddle, self.norm(self.conv(x))), 1.0, 0.5)

    model = Single()
    model.eval()
    return model


def test_an_operator_that_lite_lacks_is_named(lite: Lite, tmp_path: Path) -> None:
    model = export(single(lambda paddle, y: paddle.lgamma(y)), tmp_path / "model", SHAPE, pir=False)
    with pytest.raises(QuantfleetError, match="no kernel for lgamma") as caught:
        lite.convert(model, "arm")
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "relu": lambda p, y: p.nn.functional.relu(y),
    "relu6": lambda p, y: p.nn.functional.relu6(y),
    "leaky_relu": lambda p, y: p.nn.functional.leaky_relu(y),
    "sigmoid": lambda p, y: p.nn.functional.sigmoid(y),
    "hardsigmoid": lambda p, y: p.nn.functional.hardsigmoid(y),
    "hardswish": lambda p, y: p.nn.functional.hardswish(y),
    "swish": lambda p, y: p.nn.functional.swish(y),
    "silu": lambda p, y: p.nn.functional.silu(y),
    "tanh": lambda p, y: p.tanh(y),
    "gelu": lambda p, y: p.nn.functional.gelu(y),
    "softmax": lambda p, y: p.nn.functional.softmax(y),
    "add": lambda p, y: y + p.tanh(y),
    "subtract": lambda p, y: y - p.tanh(y),
    "multiply": lambda p, y: y * p.tanh(y),
    "divide": lambda p, y: y / (2 + p.tanh(y)),
    "matmul": lambda p, y: p.matmul(y, y),
    "flatten": lambda p, y: p.flatten(y, 1),
    "reshape": lambda p, y: p.reshape(y, [0, 4, -1]),
    "transpose": lambda p, y: p.transpose(y, [0, 2, 3, 1]),
    "squeeze": lambda p, y: p.squeeze(p.nn.functional.adaptive_avg_pool2d(y, 1), [2, 3]),
    "unsqueeze": lambda p, y: p.unsqueeze(y, [1]),
    "concat": lambda p, y: p.concat([y, p.tanh(y)], 1),
    "mean": lambda p, y: p.mean(y, [2, 3]),
    "scale": lambda p, y: p.scale(y, 2.0, 1.0),
    "assign": lambda p, y: p.assign(p.tanh(y)),
    "cast": lambda p, y: p.cast(p.cast(y, "int32"), "float32"),
    "slice": lambda p, y: y[:, 1:3],  # noqa: ARG005 - all take Paddle
    "nearest_interp": lambda p, y: p.nn.functional.interpolate(y, scale_factor=2, mode="nearest"),
    "bilinear_interp": lambda p, y: p.nn.functional.interpolate(y, scale_factor=2, mode="bilinear"),
    "pool2d": lambda p, y: p.nn.functional.max_pool2d(y, 2),
}
IN_EVERY_NETWORK = {"batch_norm", "conv2d", "depthwise_conv2d", "layer_norm"}
OF_IDS = {"embedding"}


def test_every_operator_that_we_rewrite_is_tried() -> None:
    assert OPERATORS.keys() == REWRITINGS.keys() - IN_EVERY_NETWORK - OF_IDS


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_converts_for_a_phone_and_computes_what_paddle_does(lite: Lite, tmp_path: Path, name: str) -> None:
    load_paddle().seed(1)
    model = export(single(OPERATORS[name]), tmp_path / "model", SHAPE, pir=True)
    assert lite.kernels(model, "arm").targets == ("arm",)
    images = pictures(1, seed=2)
    expected = paddle_infers(tmp_path / "prepared", images)
    np.testing.assert_allclose(lite.infer(model, images).reshape(expected.shape), expected, atol=1e-4, rtol=1e-4)
