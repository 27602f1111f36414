"""Fully connected layers of Paddle models in INT8: which of them, and whether oneDNN computes them rightly."""

from pathlib import Path
from typing import Any

import numpy as np

from quantfleet_worker.engines.base import Array, LoadOptions
from quantfleet_worker.engines.onednn_log import capture
from quantfleet_worker.engines.paddle_cpu import ENGINE
from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.models.paddle_pir import load_program
from quantfleet_worker.models.paddle_program import load_paddle, old_programs
from quantfleet_worker.quantizers.paddle_onednn import FORMS, quantize

from .conftest import SHAPE, Calibrated, calibrate, export, pictures

INT8 = LoadOptions("int8", threads=1)
FP32 = LoadOptions("fp32", threads=1)
PLAIN = FORMS[0]


def infer(model: Path, options: LoadOptions, pictures_: Array) -> Array:
    (output,) = ENGINE.load(model, options).run({"x": pictures_}).values()
    return output


def test_of_the_products_behind_convolutions_only_the_last_stays_in_float(
    classifying: tuple[Path, Calibrated], tmp_path: Path
) -> None:
    model, calibrated = classifying
    quantized = quantize(model, calibrated.table, PLAIN, tmp_path)
    assert len(quantized.int8_nodes) == 3
    session = ENGINE.load(tmp_path, INT8)
    images = pictures(8, seed=1)
    (output,) = session.run({"x": images}).values()
    assert 0 < np.abs(output - infer(model, FP32, images)).mean() < 0.01
    counts = session.node_counts()
    assert (counts.int8, counts.quantizable) == (3, 4)
    with capture() as lines:
        session.run({"x": images})
    *_, last = (line.split(",")[8] for line in lines if ",primitive,exec,cpu,inner_product" in line)
    assert last.startswith("src:f32")


def test_products_that_are_written_as_mul_are_quantized_too(
    classifying: tuple[Path, Calibrated], tmp_path: Path
) -> None:
    program = load_program(find_files(classifying[0]))
    block = program.program.global_block()
    with old_programs():
        for operator in [item for item in program.operators if item.type == "matmul_v2"]:
            inputs = {slot: operator.input(slot) for slot in ("X", "Y")}
            outputs, columns = {"Out": operator.output("Out")}, {"x_num_col_dims": 1, "y_num_col_dims": 1}
            block._insert_op(program.remove(operator), type="mul", inputs=inputs, outputs=outputs, attrs=columns)
    old = tmp_path / "float"
    old.mkdir()
    program.save(old, "inference")
    table = calibrate(old, tmp_path).table
    for form in FORMS:
        quantize(old, table, form, tmp_path / form)
        assert ENGINE.load(tmp_path / form, INT8).node_counts().int8 == 3
    images = pictures(8, seed=1)
    assert np.abs(infer(tmp_path / PLAIN, INT8, images) - infer(classifying[0], FP32, images)).mean() < 0.01


def test_a_network_without_convolutions_runs_its_products_in_int8(tmp_path: Path) -> None:
    nn = load_paddle().nn
    load_paddle().seed(13)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 32), nn.ReLU(), nn.Linear(32, 10))
    model.eval()
    unlike = np.geomspace(1, 100, 10, dtype=np.float32)  # each channel has its own scale
    model[3].weight.set_value(model[3].weight * unlike)
    old = export(model, tmp_path / "float", (None, *SHAPE[1:]), pir=False)
    quantize(old, calibrate(old, tmp_path).table, PLAIN, tmp_path / "int8")
    session = ENGINE.load(tmp_path / "int8", INT8)
    images = pictures(8, seed=1)
    wanted = infer(old, FP32, images)
    (output,) = session.run({"x": images}).values()
    errors, sizes = np.abs(output - wanted).mean(axis=0), np.abs(wanted).mean(axis=0)
    assert (errors > 0).all()
    assert (errors < 0.1 * sizes).all()
    counts = session.node_counts()
    assert (counts.int8, counts.quantizable) == (2, 2)


def tokens_network() -> Any:
    """Products of each of 32 tokens, with channels of very different size, as text encoders have them."""
    paddle = load_paddle()

    class Encoder(paddle.nn.Layer):  # type: ignore[name-defined,misc] # paddle's classes are loaded untyped
        def __init__(self) -> None:
            super().__init__()
            self.norm = paddle.nn.LayerNorm(96)
            self.inner, self.outer = paddle.nn.Linear(96, 48), paddle.nn.Linear(48, 96)
            self.head = paddle.nn.Linear(96, 10)

        def forward(self, x: Any) -> Any:
            tokens = paddle.reshape(x, [-1, 32, 96])
            tokens = tokens + self.outer(paddle.nn.functional.gelu(self.inner(self.norm(tokens))))
            return self.head(paddle.mean(tokens, 1))

    paddle.seed(17)
    model = Encoder()
    weight = model.inner.weight.numpy()
    model.inner.weight.set_value(weight * np.geomspace(0.05, 5, weight.shape[1], dtype=np.float32))
    model.eval()
    return model


def test_products_of_each_token_run_in_int8_with_the_scale_of_each_channel(tmp_path: Path) -> None:
    model = export(tokens_network(), tmp_path / "float", (None, *SHAPE[1:]), pir=True)
    quantized = quantize(model, calibrate(model, tmp_path).table, PLAIN, tmp_path / "int8")
    assert (len(quantized.int8_nodes), quantized.float_nodes) == (3, ())
    session = ENGINE.load(tmp_path / "int8", INT8)
    images = pictures(8, seed=1)
    wanted = infer(model, FP32, images)
    (output,) = session.run({"x": images}).values()
    assert 0 < np.abs(output - wanted).mean() < 0.02 * np.abs(wanted).max()
    assert session.node_counts().int8 == 3
