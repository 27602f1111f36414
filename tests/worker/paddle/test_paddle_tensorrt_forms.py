"""From a scale table to what Paddle-TensorRT reads: its scales to the bit, and what Paddle itself computes of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from quantfleet_domain.calibration.correction import (
    CHECKPOINTS,
    Corrections,
    FormCorrections,
    LayerCorrection,
    quantity,
)
from quantfleet_domain.calibration.forms import ActivationForm, activation_parameters, weight_scales
from quantfleet_domain.calibration.tensorrt_cache import CalibrationCache
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.base import Array, LoadOptions
from quantfleet_worker.engines.paddle_cpu import ENGINE as CPU
from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.models.paddle_pir import load_program
from quantfleet_worker.models.paddle_program import PaddleProgram
from quantfleet_worker.models.simulated_run import later_stage
from quantfleet_worker.quantizers.paddle_tensorrt import FORMS, QDQ, TABLE, quantize

from .conftest import SHAPE, Calibrated, calibrate, export, network, pictures

FP32 = LoadOptions("fp32", threads=1)


def computed(model: Path, images: Array) -> Array:
    """What Paddle's own operators compute, quantize and dequantize among them, without any pass."""
    program = load_program(find_files(model))
    (values,) = program.run({"x": images}, program.fetches).values()
    return np.asarray(values)


def cache_of(folder: Path) -> CalibrationCache:
    return CalibrationCache.from_text((folder / "calibration.cache").read_bytes(), "the table")


def test_the_quantized_program_has_the_scales_of_the_table_to_the_bit(
    old_model: Path, calibrated: Calibrated, tmp_path: Path
) -> None:
    quantize(old_model, calibrated.table, QDQ, tmp_path)
    program = load_program(find_files(tmp_path))
    compared = 0
    for row in calibrated.table.activations:
        name = f"{row.native_name}@scale"
        if program.is_parameter(name):
            scale = activation_parameters(ActivationForm.S8_SYMMETRIC, row.lo, row.hi).scale
            assert program.parameter(name) / np.float32(127) == scale, name
            compared += 1
    assert compared == 5
    for row in calibrated.table.weights:
        scales = f"{row.native_name}@scale"
        if program.is_parameter(scales):
            assert (program.parameter(scales) / np.float32(127) == weight_scales(row.absmax)).all()


def test_every_quantized_operator_has_a_pattern_that_paddles_passes_for_tensorrt_take_out(
    old_model: Path, calibrated: Calibrated, tmp_path: Path
) -> None:
    quantize(old_model, calibrated.table, QDQ, tmp_path)
    program = load_program(find_files(tmp_path))
    producers, written = program.producers(), [name for item in program.operators for name in item.output_arg_names]
    assert len(written) == len(set(written))
    for operator in program.operators:
        if operator.type == "dequantize_linear":
            (source,) = operator.input("X")
            assert program.is_parameter(operator.input("Scale")[0])
            if program.is_parameter(source):  # trt_delete_weight_dequant_linear_op_pass.cc
                assert program.parameter(source).dtype == np.int8
                assert operator.attr("quant_axis") == 0
                assert program.parameter(source).ndim == 4
            else:  # DeleteQuantDequantLinearOpPattern
                assert producers[source].type == "quantize_linear"
                assert operator.input("Scale") == producers[source].input("Scale")
                assert program.parameter(operator.input("Scale")[0]).size == 1


def test_the_simulation_computes_what_paddle_computes_of_the_quantized_program(
    old_model: Path, calibrated: Calibrated, tmp_path: Path
) -> None:
    simulated_as_computed(old_model, calibrated, tmp_path)


def test_so_it_does_where_hidden_products_run_in_int8(classifying: tuple[Path, Calibrated], tmp_path: Path) -> None:
    simulated_as_computed(*classifying, tmp_path)


def simulated_as_computed(model: Path, calibrated: Calibrated, out: Path) -> None:
    quantize(model, calibrated.table, QDQ, out)
    images = pictures(16, seed=1)
    real = computed(out, images)
    (layer,) = (item for item in calibrated.graph.layers if item.last)
    run = later_stage(
        onnx.load_from_string(calibrated.reference),
        calibrated.graph,
        calibrated.table,
        (QDQ,),
        Corrections("", 1, {}, (FormCorrections(QDQ, (), ()),)),
        CHECKPOINTS,
    )
    name = calibrated.graph.inputs[0].name
    logits = [run.quantities({name: images[i : i + 1]})[quantity("mean", QDQ, layer.output)] for i in range(16)]
    powers = np.exp(np.asarray(logits, np.float64))
    simulated = powers / powers.sum(axis=1, keepdims=True)
    (exact,) = CPU.load(model, FP32).run({"x": images}).values()
    assert np.abs(real - exact).max() > 1e-3
    # A value that lies between two codes may be rounded either way on the two sides.
    assert np.abs(simulated - real).mean() < 0.02 * np.abs(exact - real).mean()


def test_the_program_of_the_table_form_is_the_model_in_float(
    old_model: Path, calibrated: Calibrated, tmp_path: Path
) -> None:
    made = quantize(old_model, calibrated.table, TABLE, tmp_path)
    images = pictures(4)
    (exact,) = CPU.load(old_model, FP32).run({"x": images}).values()
    np.testing.assert_allclose(computed(tmp_path, images), exact, atol=1e-6)
    assert "batch_norm" not in {operator.type for operator in load_program(find_files(tmp_path)).operators}
    assert len(made.int8_nodes) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "calibration.cache",
        "inference.pdiparams",
        "inference.pdmodel",
    ]


def test_the_table_has_the_scale_of_every_tensor_by_its_name_in_that_program(
    old_model: Path, calibrated: Calibrated, tmp_path: Path
) -> None:
    quantize(old_model, calibrated.table, TABLE, tmp_path)
    scales, program = cache_of(tmp_path).scales, load_program(find_files(tmp_path))
    block = program.program.global_block()
    assert all(block.has_var(name) for name in scales)
    for row in calibrated.table.activations:
        scale = activation_parameters(ActivationForm.S8_SYMMETRIC, row.lo, row.hi).scale
        if row.native_name and row.native_name != "pool2d_0.tmp_0":  # the head behind it stays in float
            assert scales[row.native_name] == float(scale)
    assert "pool2d_0.tmp_0" not in scales
    convolutions = [operator for operator in program.operators if operator.type in ("conv2d", "depthwise_conv2d")]
    assert len(convolutions) == 3
    for operator in convolutions:
        (bias,) = program.consumers(operator.output_arg_names[0])
        assert operator.input("Input")[0] in scales
        assert bias.output_arg_names[0] in scales


def test_what_only_a_rectifier_reads_has_the_scale_of_its_output(
    old_model: Path, calibrated: Calibrated, tmp_path: Path
) -> None:
    quantize(old_model, calibrated.table, TABLE, tmp_path)
    scales = cache_of(tmp_path).scales
    rectifiers = [item for item in load_program(find_files(tmp_path)).operators if item.type in ("relu", "relu6")]
    assert len(rectifiers) == 3
    for operator in rectifiers:
        assert scales[operator.input("X")[0]] == scales[operator.output("Out")[0]] > 0


def test_corrections_of_biases_reach_both_forms(old_model: Path, calibrated: Calibrated, tmp_path: Path) -> None:
    layer = next(item for item in calibrated.graph.layers if not item.last)
    channels = len(next(row for row in calibrated.table.weights if row.tensor == layer.weight).absmax)
    moved = LayerCorrection(layer.output, layer.weight, (0.5,) * channels, None)
    images = pictures(4)
    for form in FORMS:
        for name, layers in (("plain", ()), ("moved", (moved,))):
            corrections = FormCorrections(form, layers, ())
            quantize(old_model, calibrated.table, form, tmp_path / form / name, corrections)
        plain, other = (computed(tmp_path / form / name, images) for name in ("plain", "moved"))
        assert np.abs(plain - other).max() > 1e-2


@pytest.mark.parametrize("form", FORMS)
def test_the_same_table_gives_the_same_bytes(
    old_model: Path, calibrated: Calibrated, tmp_path: Path, form: str
) -> None:
    written = set()
    for number in range(4):
        out = quantize(old_model, calibrated.table, form, tmp_path / str(number)).path
        written.add(tuple(path.read_bytes() for path in sorted(out.iterdir())))
    assert len(written) == 1


@pytest.mark.parametrize("form", FORMS)
def test_no_path_of_this_machine_is_written(old_model: Path, calibrated: Calibrated, tmp_path: Path, form: str) -> None:
    out = quantize(old_model, calibrated.table, form, tmp_path).path
    assert b".py" not in (out / "inference.pdmodel").read_bytes()


def test_a_pir_model_gets_both_forms_in_the_old_format(tmp_path: Path) -> None:
    model = export(network(), tmp_path / "pir", (None, *SHAPE[1:]), pir=True)
    table = calibrate(model, tmp_path).table
    for form in FORMS:
        quantize(model, table, form, tmp_path / form)
        assert isinstance(PaddleProgram.load(tmp_path / form, "inference"), PaddleProgram)


@pytest.mark.parametrize("form", FORMS)
def test_a_table_of_another_model_is_refused(
    old_model: Path, calibrated: Calibrated, tmp_path: Path, form: str
) -> None:
    rows: tuple[Any, ...] = tuple(
        replace(row, native_name=f"other_{row.native_name}") for row in calibrated.table.activations
    )
    with pytest.raises(QuantfleetError) as caught:
        quantize(old_model, replace(calibrated.table, activations=rows), form, tmp_path / "out")
    assert caught.value.code is ErrorCode.SCALES_INVALID
    assert not (tmp_path / "out").exists()


def test_an_unknown_form_is_refused(old_model: Path, calibrated: Calibrated, tmp_path: Path) -> None:
    with pytest.raises(QuantfleetError, match="cache"):
        quantize(old_model, calibrated.table, "cache", tmp_path)
