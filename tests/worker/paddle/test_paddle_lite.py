from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.worker.paddle.conftest import Calibrated, calibrate, pictures

from quantfleet_domain.calibration.correction import FormCorrections, LayerCorrection
from quantfleet_domain.calibration.forms import ActivationForm, activation_parameters, weight_scales
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.models.paddle_lite_program import prepare
from quantfleet_worker.models.paddle_program import PaddleProgram
from quantfleet_worker.models.paddle_thresholds import read_thresholds
from quantfleet_worker.quantizers import paddle_onednn
from quantfleet_worker.quantizers.paddle_lite import FORM, quantize
from quantfleet_worker.quantizers.paddle_qdq import written_threshold
from quantfleet_worker.quantizers.simulation import simulated

LEVELS = np.float32(127)


def load(directory: Path) -> PaddleProgram:
    return PaddleProgram.load(directory, find_files(directory).stem)


def infer(directory: Path) -> Any:
    """What Paddle itself computes of a program, quantizers included."""
    program = load(directory)
    return program.run({"x": pictures(4)}, program.fetches)[program.fetches[0]]


def of_type(program: PaddleProgram, *kinds: str) -> list[Any]:
    return [operator for operator in program.operators if operator.type in kinds]


def test_an_int8_program_computes_nearly_what_the_float_one_does(
    old_model: Path, calibrated: Calibrated, tmp_path: Path
) -> None:
    written = quantize(old_model, calibrated.table, tmp_path)
    assert len(written.int8_nodes) == 3
    assert len(written.float_nodes) == 1
    error = np.abs(infer(tmp_path) - infer(old_model)).max()
    assert 0 < error < 0.02


def test_dividing_what_is_written_by_127_gives_the_tables_own_scales_to_the_bit(
    old_model: Path, calibrated: Calibrated, tmp_path: Path
) -> None:
    quantize(old_model, calibrated.table, tmp_path)
    program, found = load(tmp_path), read_thresholds(find_files(tmp_path)).thresholds
    rows = {row.native_name: row for row in calibrated.table.activations}
    assert len(found) >= 3
    for name in (operator.input("X")[0] for operator in of_type(program, "quantize_linear")):
        expected = activation_parameters(ActivationForm.S8_SYMMETRIC, rows[name].lo, rows[name].hi).scale
        assert np.float32(found[name]) / LEVELS == expected
    peaks = {row.native_name: weight_scales(row.absmax) for row in calibrated.table.weights}
    weights = [op for op in of_type(program, "dequantize_linear") if program.is_parameter(op.input("X")[0])]
    assert len(weights) == 3
    for operator in weights:
        (name,) = operator.input("X")
        np.testing.assert_array_equal(program.parameter(operator.input("Scale")[0]) / LEVELS, peaks[name])
        assert program.parameter(name).dtype == np.int8


@given(st.floats(min_value=2.0**-100, max_value=2.0**100, width=32))
def test_every_scale_of_a_range_has_a_float32_that_gives_it(magnitude: float) -> None:
    scale = activation_parameters(ActivationForm.S8_SYMMETRIC, 0, magnitude).scale
    assert written_threshold(scale) / LEVELS == scale


def test_a_tensor_with_several_readers_is_quantized_once(
    old_model: Path, calibrated: Calibrated, tmp_path: Path
) -> None:
    quantize(old_model, calibrated.table, tmp_path)
    quantized = [operator.input("X")[0] for operator in of_type(load(tmp_path), "quantize_linear")]
    assert len(set(quantized)) == len(quantized) == 3


def test_fully_connected_layers_stay_products_with_a_scale_per_output_channel(
    classifying: tuple[Path, Calibrated], tmp_path: Path
) -> None:
    model, calibrated = classifying
    written = quantize(model, calibrated.table, tmp_path)
    program = load(tmp_path)
    assert len(written.int8_nodes) == 3
    assert len(of_type(program, "matmul_v2")) == 3
    axes = {op.input("X")[0]: op.attr("quant_axis") for op in of_type(program, "dequantize_linear")}
    shapes = {name: program.parameter(name).shape for name in axes if program.is_parameter(name)}
    assert all(axes[name] == (0 if len(shape) == 4 else 1) for name, shape in shapes.items())
    assert np.abs(infer(tmp_path) - infer(model)).max() < 0.05


def test_a_pir_model_gets_the_same_scales_in_the_old_format(
    pir_model: Path, calibrated: Calibrated, tmp_path: Path
) -> None:
    quantize(pir_model, calibrate(pir_model, tmp_path).table, tmp_path / "int8")
    assert find_files(tmp_path / "int8").program.suffix == ".pdmodel"
    assert np.abs(infer(tmp_path / "int8") - infer_pir(tmp_path, pir_model)).max() < 0.02


def infer_pir(tmp_path: Path, model: Path) -> Any:
    prepare(model, tmp_path / "float")
    return infer(tmp_path / "float")


def test_a_layer_that_corrections_exclude_stays_in_float_and_says_why(
    old_model: Path, calibrated: Calibrated, tmp_path: Path
) -> None:
    first = calibrated.graph.layers[0]
    corrections = FormCorrections(FORM, (), (LayerCorrection(first.output, first.weight, (), 3.5),))
    written = quantize(old_model, calibrated.table, tmp_path, corrections)
    assert len(written.int8_nodes) == 2
    assert any("SQNR of 3.5 dB" in reason for reason in written.float_nodes)


def test_a_table_of_another_model_is_refused(old_model: Path, calibrated: Calibrated, tmp_path: Path) -> None:
    other = replace(calibrated.table, weights=())
    with pytest.raises(QuantfleetError) as caught:
        quantize(old_model, other, tmp_path / "out")
    assert caught.value.code is ErrorCode.SCALES_INVALID
    assert not (tmp_path / "out").exists()


def test_the_simulation_for_bias_correction_has_the_programs_scales(
    old_model: Path, calibrated: Calibrated, tmp_path: Path
) -> None:
    quantize(old_model, calibrated.table, tmp_path)
    program = load(tmp_path)
    found = simulated(FORM, onnx.load_from_string(calibrated.reference), calibrated.graph, calibrated.table)
    written = {op.input("X")[0]: op.input("Scale")[0] for op in of_type(program, "quantize_linear")}
    names = {calibrated.graph.native_names.get(name, name): item for name, item in found.activations.items()}
    assert names.keys() == written.keys()
    for name, parameters in names.items():
        assert program.parameter(written[name]).item() / LEVELS == parameters.scale
        assert parameters.zero_point.dtype == np.int8
    assert len(found.weights) == 3


def test_the_same_table_gives_the_same_bytes(old_model: Path, calibrated: Calibrated, tmp_path: Path) -> None:
    one, two = (quantize(old_model, calibrated.table, tmp_path / name).path for name in ("one", "two"))
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {p.name: p.read_bytes() for p in two.iterdir()}


@pytest.mark.parametrize("form", ["old", "pir"])
def test_a_prepared_program_has_what_opt_reads_and_computes_the_same(
    form: str, old_model: Path, pir_model: Path, tmp_path: Path
) -> None:
    prepared = prepare(old_model if form == "old" else pir_model, tmp_path)
    program = load(tmp_path)
    assert [operator.attr("threshold") for operator in of_type(program, "relu6")] == [6.0]
    assert all(operator.output("XShape") for operator in of_type(program, "flatten_contiguous_range"))
    assert of_type(program, "flatten_contiguous_range")
    assert not of_type(program, "batch_norm")
    assert list(prepared.inputs) == ["x"]
    assert [dtype.name for dtype in prepared.outputs.values()] == ["float32"]
    np.testing.assert_allclose(infer(tmp_path), infer(old_model), atol=1e-6)


def test_what_paddles_passes_quantized_twice_is_quantized_once_and_computes_the_same(
    old_model: Path, calibrated: Calibrated, tmp_path: Path
) -> None:
    given_ = paddle_onednn.quantize(old_model, calibrated.table, "s8-symmetric", tmp_path / "given").path
    prepare(given_, tmp_path / "prepared")
    before, after = load(given_), load(tmp_path / "prepared")
    outputs = [op.output("Y")[0] for op in of_type(after, "quantize_linear", "dequantize_linear")]
    assert len(set(outputs)) == len(outputs) < len(of_type(before, "quantize_linear", "dequantize_linear"))
    np.testing.assert_array_equal(infer(tmp_path / "prepared"), infer(given_))
