"""Bias corrections and exclusions in the Paddle INT8 program, as oneDNN really runs it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantfleet_domain.calibration.correction import FormCorrections, LayerCorrection
from quantfleet_domain.calibration.graph import Layer
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.base import Array, LoadOptions
from quantfleet_worker.engines.onednn_log import capture
from quantfleet_worker.engines.paddle_cpu import ENGINE
from quantfleet_worker.models.paddle_program import load_paddle
from quantfleet_worker.quantizers.paddle_onednn import FORMS, quantize

from .conftest import SHAPE, Calibrated, calibrate, export, pictures

INT8 = LoadOptions("int8", threads=1)
FP32 = LoadOptions("fp32", threads=1)
PLAIN, HEADROOM = FORMS
CHANNELS = 8


def chain(*, bias: bool, twice: bool = False) -> Any:
    """Two convolutions, with or without biases; `twice`: the second one's weight is used a second time."""
    paddle = load_paddle()
    nn = paddle.nn
    attribute = None if bias else False

    class Chain(nn.Layer):  # type: ignore[name-defined,misc] # paddle's classes are loaded untyped
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2D(3, CHANNELS, 3, 2, 1, bias_attr=attribute)
            self.second = nn.Conv2D(CHANNELS, CHANNELS, 3, 1, 1, bias_attr=attribute)

        def forward(self, x: Any) -> Any:
            x = self.second(nn.functional.relu(self.first(x)))
            return self.second(nn.functional.relu(x)) if twice else x

    paddle.seed(3)
    model = Chain()
    model.eval()
    return model


@pytest.fixture(scope="module", params=[True, False], ids=["biases", "no biases"])
def chained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Calibrated]:
    folder = tmp_path_factory.mktemp("chain")
    model = export(chain(bias=request.param), folder / "float", (None, *SHAPE[1:]), pir=False)
    return model, calibrate(model, folder)


def infer(model: Path, options: LoadOptions, images: Array) -> Array:
    (output,) = ENGINE.load(model, options).run({"x": images}).values()
    return output


def corrected(layer: Layer, delta: Array) -> LayerCorrection:
    return LayerCorrection(layer.output, layer.weight, tuple(delta.astype(np.float32).tolist()), 20.0)


def test_a_delta_on_one_channel_moves_that_channel_alone_and_by_as_much(
    chained: tuple[Path, Calibrated], tmp_path: Path
) -> None:
    model, calibrated = chained
    delta = np.zeros(CHANNELS)
    delta[3] = 0.25
    moved = FormCorrections(PLAIN, (corrected(calibrated.graph.layers[-1], delta),), ())
    quantize(model, calibrated.table, PLAIN, tmp_path / "plain")
    quantize(model, calibrated.table, PLAIN, tmp_path / "moved", moved)
    images = pictures(8, seed=1)
    difference = infer(tmp_path / "moved", INT8, images) - infer(tmp_path / "plain", INT8, images)
    np.testing.assert_allclose(difference[:, 3], 0.25, atol=1e-5)
    assert not np.delete(difference, 3, axis=1).any()


@pytest.mark.parametrize("form", FORMS)
def test_corrected_biases_bring_the_mean_outputs_back(
    chained: tuple[Path, Calibrated], tmp_path: Path, form: str
) -> None:
    model, calibrated = chained
    images = pictures(32, seed=1)
    quantize(model, calibrated.table, form, tmp_path / "plain")
    wanted = infer(model, FP32, images).mean(axis=(0, 2, 3))
    shift = wanted - infer(tmp_path / "plain", INT8, images).mean(axis=(0, 2, 3))
    corrections = FormCorrections(form, (corrected(calibrated.graph.layers[-1], shift),), ())
    quantize(model, calibrated.table, form, tmp_path / "corrected", corrections)
    left = wanted - infer(tmp_path / "corrected", INT8, images).mean(axis=(0, 2, 3))
    # Without VNNI, pairs of what lies beyond the calibrated range saturate, and kernels pair in orders of their own.
    assert np.abs(left).max() < 0.05 * np.abs(shift).max()


def test_a_new_bias_is_fused_into_its_convolution(chained: tuple[Path, Calibrated], tmp_path: Path) -> None:
    model, calibrated = chained
    deltas = tuple(corrected(layer, np.full(CHANNELS, 0.1)) for layer in calibrated.graph.layers)
    quantize(model, calibrated.table, PLAIN, tmp_path, FormCorrections(PLAIN, deltas, ()))
    session = ENGINE.load(tmp_path, INT8)
    session.run({"x": pictures(1)})
    with capture() as lines:
        session.run({"x": pictures(1)})
    executed = [line.split(",") for line in lines if ",primitive,exec," in line]
    assert [fields[5] for fields in executed if fields[5] != "reorder"] == ["convolution"] * 2
    assert all("bia" in fields[8] for fields in executed if fields[5] == "convolution")


def test_a_weight_that_two_operators_use_is_left_uncorrected(tmp_path: Path) -> None:
    model = export(chain(bias=True, twice=True), tmp_path / "float", (None, *SHAPE[1:]), pir=False)
    calibrated = calibrate(model, tmp_path)
    deltas = tuple(corrected(layer, np.full(CHANNELS, 0.5)) for layer in calibrated.graph.layers[1:])
    assert len(deltas) == 2
    quantize(model, calibrated.table, PLAIN, tmp_path / "plain")
    quantize(model, calibrated.table, PLAIN, tmp_path / "moved", FormCorrections(PLAIN, deltas, ()))
    images = pictures(4, seed=1)
    np.testing.assert_array_equal(infer(tmp_path / "moved", INT8, images), infer(tmp_path / "plain", INT8, images))


def test_an_excluded_layer_runs_in_float_and_says_why(old_model: Path, calibrated: Calibrated, tmp_path: Path) -> None:
    depthwise = calibrated.graph.layers[1]
    poor = replace(corrected(depthwise, np.zeros(16)), sqnr_db=4.2)
    quantized = quantize(old_model, calibrated.table, HEADROOM, tmp_path, FormCorrections(HEADROOM, (), (poor,)))
    assert len(quantized.int8_nodes) == 2
    (reason,) = (text for text in quantized.float_nodes if "excluded" in text)
    assert reason.endswith(": excluded: its own SQNR of 4.2 dB is below the limit")
    assert ENGINE.load(tmp_path, INT8).node_counts().int8 == 2
    images = pictures(32, seed=1)
    assert np.abs(infer(tmp_path, INT8, images) - infer(old_model, FP32, images)).mean() < 0.02


def test_excluding_every_layer_is_an_error(old_model: Path, calibrated: Calibrated, tmp_path: Path) -> None:
    poor = tuple(corrected(layer, np.zeros(1)) for layer in calibrated.graph.layers)
    with pytest.raises(QuantfleetError, match="every layer") as caught:
        quantize(old_model, calibrated.table, PLAIN, tmp_path, FormCorrections(PLAIN, (), poor))
    assert caught.value.code is ErrorCode.SCALES_INVALID


def test_the_same_corrections_give_the_same_bytes(chained: tuple[Path, Calibrated], tmp_path: Path) -> None:
    model, calibrated = chained
    deltas = tuple(corrected(layer, np.full(CHANNELS, 0.1)) for layer in calibrated.graph.layers)
    written = set()
    for number in range(4):  # Paddle's passes order independent operators by chance
        out = tmp_path / str(number)
        quantize(model, calibrated.table, PLAIN, out, FormCorrections(PLAIN, deltas, ()))
        written.add(tuple((out / file).read_bytes() for file in ("inference.pdmodel", "inference.pdiparams")))
    assert len(written) == 1
