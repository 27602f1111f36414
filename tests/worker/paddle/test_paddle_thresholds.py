"""Thresholds of a model that Paddle's own post-training quantization made, in both of its formats."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.models.paddle_program import load_paddle, old_programs
from quantfleet_worker.models.paddle_thresholds import read_thresholds
from quantfleet_worker.models.scale_import import import_scales

from .conftest import SHAPE, Calibrated, pictures

FORMATS = {"quantize_linear": True, "fake_quantize": False}
DIGEST = "9" * 64


@dataclass(frozen=True)
class Quantized:
    """A model that Paddle quantized, and the thresholds that it chose, by the name of the variable."""

    directory: Path
    thresholds: dict[str, float]


def post_training(model: Path, out: Path, *, onnx_format: bool) -> Quantized:
    paddle = load_paddle()
    from paddle.static.quantization import PostTrainingQuantization

    scope, files = (
        paddle.static.Scope(),
        {"model_filename": "inference.pdmodel", "params_filename": "inference.pdiparams"},
    )
    samples = [{"x": picture[None]} for picture in pictures(8)]
    paddle.enable_static()
    try:
        with old_programs(), paddle.static.scope_guard(scope):
            quantization = PostTrainingQuantization(
                executor=paddle.static.Executor(paddle.CPUPlace()),
                scope=scope,
                model_dir=str(model),
                data_loader=lambda: samples,
                batch_nums=len(samples),
                algo="abs_max",
                onnx_format=onnx_format,
                **files,
            )
            quantization.quantize()
            out.mkdir()
            quantization.save_quantized_model(str(out), **files)
    finally:
        paddle.disable_static()
    found = quantization._quantized_threshold
    return Quantized(out, {name: float(value) for name, value in found.items() if np.ndim(value) == 0})


@pytest.fixture(scope="module", params=FORMATS)
def quantized(request: pytest.FixtureRequest, old_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Quantized:
    folder = tmp_path_factory.mktemp(request.param)
    return post_training(old_model, folder / "model", onnx_format=FORMATS[request.param])


def test_the_thresholds_of_the_table_are_those_that_paddle_chose(
    quantized: Quantized, old_model: Path, calibrated: Calibrated
) -> None:
    table = import_scales(quantized.directory, old_model, "paddle", {"x": SHAPE}, DIGEST)
    assert [row.tensor for row in table.activations] == list(calibrated.graph.activations)
    found = {row.native_name: row.hi for row in table.activations}
    assert found == pytest.approx({name: quantized.thresholds[str(name)] for name in found}, rel=1e-6)
    assert table.weights == calibrated.table.weights
    assert table.header.numerics_class.engine == "paddle"
    assert table.header.numerics_class.engine_version == load_paddle().__version__


def test_what_relu_made_is_never_negative(quantized: Quantized, old_model: Path) -> None:
    table = import_scales(quantized.directory, old_model, "paddle", {"x": SHAPE}, DIGEST)
    assert {row.native_name for row in table.activations if row.lo < 0} == {"x", "conv2d_1.tmp_1"}


def test_a_model_that_is_not_quantized_has_no_thresholds(old_model: Path) -> None:
    with pytest.raises(QuantfleetError, match="has no threshold of an activation") as caught:
        read_thresholds(find_files(old_model))
    assert caught.value.code is ErrorCode.SCALES_INVALID


def test_a_pir_program_is_refused_with_what_to_give_instead(pir_model: Path) -> None:
    with pytest.raises(QuantfleetError, match=r"give a \.pdmodel program"):
        read_thresholds(find_files(pir_model))


def test_a_model_of_other_tensors_is_refused(quantized: Quantized, pir_model: Path) -> None:
    with pytest.raises(QuantfleetError, match="the source has no range for"):
        import_scales(quantized.directory, pir_model, "paddle", {"x": SHAPE}, DIGEST)
