"""From a scale table to a Paddle INT8 program, and what oneDNN makes of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.base import Array, LoadOptions
from quantfleet_worker.engines.onednn_log import capture
from quantfleet_worker.engines.paddle_cpu import ENGINE
from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.models.paddle_pir import load_program
from quantfleet_worker.models.paddle_program import load_paddle
from quantfleet_worker.quantizers.paddle_onednn import FORMS, quantize

from .conftest import SHAPE, Calibrated, calibrate, export, pictures

INT8 = LoadOptions("int8", threads=1)
FP32 = LoadOptions("fp32", threads=1)
PLAIN, HEADROOM = FORMS


def infer(model: Path, options: LoadOptions, pictures_: Array) -> Array:
    (output,) = ENGINE.load(model, options).run({"x": pictures_}).values()
    return output


@pytest.mark.parametrize("form", FORMS)
def test_int8_outputs_are_close_to_float(old_model: Path, calibrated: Calibrated, tmp_path: Path, form: str) -> None:
    quantized = quantize(old_model, calibrated.table, form, tmp_path)
    assert len(quantized.int8_nodes) == 3
    assert [name for name in quantized.float_nodes if "head" in name] == list(quantized.float_nodes)
    images = pictures(32, seed=1)
    difference = np.abs(infer(tmp_path, INT8, images) - infer(old_model, FP32, images))
    assert 0 < difference.mean() < 0.02


def test_a_pir_model_is_quantized_too(pir_model: Path, tmp_path: Path) -> None:
    quantize(pir_model, calibrate(pir_model, tmp_path).table, HEADROOM, tmp_path / "int8")
    session = ENGINE.load(tmp_path / "int8", INT8)
    images = pictures(32, seed=1)
    (output,) = session.run({"x": images}).values()
    assert np.abs(output - infer(pir_model, FP32, images)).mean() < 0.02
    assert session.node_counts().int8 == 3


def test_the_scales_of_the_table_are_the_ones_in_effect(
    old_model: Path, calibrated: Calibrated, tmp_path: Path
) -> None:
    rows = list(calibrated.table.activations)
    rows[1] = replace(rows[1], lo=rows[1].lo * 0.25, hi=rows[1].hi * 0.25)
    quantize(old_model, calibrated.table, PLAIN, tmp_path / "right")
    quantize(old_model, replace(calibrated.table, activations=tuple(rows)), PLAIN, tmp_path / "wrong")
    images = pictures(32, seed=1)
    float_output = infer(old_model, FP32, images)
    right = np.abs(infer(tmp_path / "right", INT8, images) - float_output).mean()
    wrong = np.abs(infer(tmp_path / "wrong", INT8, images) - float_output).mean()
    assert wrong > 3 * right


def scales_of(program: Path, calibrated: Calibrated) -> dict[str, float]:
    loaded = load_program(find_files(program))
    names = [row.native_name for row in calibrated.table.activations if row.native_name]
    present = [name for name in names if loaded.program.global_block().has_var(f"{name}@scale")]
    return {name: loaded.parameter(f"{name}@scale").item() for name in present}


def test_headroom_widens_only_what_is_unsigned_and_read_by_products_in_pairs(
    old_model: Path, calibrated: Calibrated, tmp_path: Path
) -> None:
    for form in FORMS:
        quantize(old_model, calibrated.table, form, tmp_path / form)
    plain, widened = (scales_of(tmp_path / form, calibrated) for form in FORMS)
    ratios = {name: widened[name] / plain[name] for name in plain}
    # The stem's Relu is read by a depthwise convolution and a sum, the one after the sum by a pooling.
    ((name, ratio),) = ((name, ratio) for name, ratio in ratios.items() if ratio != pytest.approx(1))
    assert "relu6" in name
    assert 1.2 < ratio < 2
    assert len([name for name in ratios if "relu" in name]) == 3


def test_what_reads_a_concat_gets_signed_codes_and_needs_no_headroom(tmp_path: Path) -> None:
    paddle = load_paddle()
    nn = paddle.nn

    class Fire(nn.Layer):  # type: ignore[name-defined,misc] # paddle's classes are loaded untyped
        def __init__(self) -> None:
            super().__init__()
            self.squeeze = nn.Conv2D(3, 16, 1)
            self.left, self.right = nn.Conv2D(16, 8, 1), nn.Conv2D(16, 8, 3, padding=1)
            self.last = nn.Conv2D(16, 8, 1)

        def forward(self, x: Any) -> Any:
            relu = nn.functional.relu
            x = relu(self.squeeze(x))
            return self.last(paddle.concat([relu(self.left(x)), relu(self.right(x))], axis=1))

    paddle.seed(5)
    model = Fire()
    model.eval()
    old = export(model, tmp_path / "float", (None, *SHAPE[1:]), pir=False)
    calibrated = calibrate(old, tmp_path)
    (tie,) = calibrated.graph.ties
    for form in FORMS:
        quantize(old, calibrated.table, form, tmp_path / form)
    plain, widened = (scales_of(tmp_path / form, calibrated) for form in FORMS)
    ratios = {name: widened[name] / plain[name] for name in plain}
    joined = {calibrated.graph.native_names[name] for name in tie}
    assert {name for name, ratio in ratios.items() if ratio == pytest.approx(1)} == {*joined, "x"}
    assert len(ratios) == len(joined) + 2
    session = ENGINE.load(tmp_path / PLAIN, INT8)
    session.run({"x": pictures(1)})
    with capture() as lines:
        session.run({"x": pictures(1)})
    *_, last = (line.split(",")[8] for line in lines if ",primitive,exec,cpu,convolution" in line)
    assert last.startswith("src:s8")


def test_an_output_that_int8_operators_read_stays_in_float(tmp_path: Path) -> None:
    paddle = load_paddle()
    nn = paddle.nn

    class Network(nn.Layer):  # type: ignore[name-defined,misc] # paddle's classes are loaded untyped
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2D(3, 8, 3), nn.Conv2D(8, 8, 3)

        def forward(self, x: Any) -> Any:
            features = nn.functional.relu(self.first(x))
            return features, self.second(features)

    paddle.seed(11)
    model = Network()
    model.eval()
    old = export(model, tmp_path / "float", (None, *SHAPE[1:]), pir=False)
    quantize(old, calibrate(old, tmp_path).table, PLAIN, tmp_path / "int8")
    session = ENGINE.load(tmp_path / "int8", INT8)
    images = pictures(8, seed=1)
    wanted = ENGINE.load(old, FP32).run({"x": images}).values()
    features, output = session.run({"x": images}).values()
    assert len(np.unique(features)) > 256
    for found, expected in zip((features, output), wanted, strict=True):
        assert np.abs(found - expected).mean() < 0.1 * np.abs(expected).mean()
    assert session.node_counts().int8 == 2


def test_the_same_table_gives_the_same_bytes(old_model: Path, calibrated: Calibrated, tmp_path: Path) -> None:
    written = set()
    for number in range(8):  # Paddle's passes order independent operators by chance
        out = quantize(old_model, calibrated.table, PLAIN, tmp_path / str(number)).path
        written.add(tuple((out / file).read_bytes() for file in ("inference.pdmodel", "inference.pdiparams")))
    assert len(written) == 1


def test_a_table_of_another_model_is_refused(old_model: Path, calibrated: Calibrated, tmp_path: Path) -> None:
    rows = tuple(replace(row, native_name=f"other_{row.native_name}") for row in calibrated.table.activations)
    with pytest.raises(QuantfleetError) as caught:
        quantize(old_model, replace(calibrated.table, activations=rows), PLAIN, tmp_path)
    assert caught.value.code is ErrorCode.SCALES_INVALID


def test_a_table_with_other_channels_is_refused(old_model: Path, calibrated: Calibrated, tmp_path: Path) -> None:
    rows = tuple(replace(row, absmax=row.absmax[:-1]) for row in calibrated.table.weights)
    with pytest.raises(QuantfleetError, match="output channels") as caught:
        quantize(old_model, replace(calibrated.table, weights=rows), PLAIN, tmp_path)
    assert caught.value.code is ErrorCode.SCALES_INVALID


def test_an_unknown_form_is_refused(old_model: Path, calibrated: Calibrated, tmp_path: Path) -> None:
    with pytest.raises(QuantfleetError, match="u4"):
        quantize(old_model, calibrated.table, "u4", tmp_path)


def test_an_operator_without_a_scale_stays_in_float_and_is_named(
    old_model: Path, calibrated: Calibrated, tmp_path: Path
) -> None:
    rows = [row for row in calibrated.table.activations if row.native_name != "x"]
    quantized = quantize(old_model, replace(calibrated.table, activations=tuple(rows)), PLAIN, tmp_path)
    assert len(quantized.int8_nodes) == 2
    assert any("lacks its input" in reason for reason in quantized.float_nodes)
    images = pictures(8, seed=1)
    assert np.abs(infer(tmp_path, INT8, images) - infer(old_model, FP32, images)).mean() < 0.02


def test_the_int8_operators_are_counted_from_onednns_log(
    old_model: Path, calibrated: Calibrated, tmp_path: Path
) -> None:
    quantize(old_model, calibrated.table, PLAIN, tmp_path)
    counts = ENGINE.load(tmp_path, INT8).node_counts()
    assert (counts.int8, counts.quantizable) == (3, 4)
    assert [fallback for fallback in counts.fallbacks if "matmul_v2" in fallback] == list(counts.fallbacks)
    in_float = ENGINE.load(tmp_path, FP32).node_counts()
    assert (in_float.int8, in_float.quantizable, len(in_float.fallbacks)) == (0, 4, 4)


def test_a_float_model_has_no_int8_operators(old_model: Path, pir_model: Path) -> None:
    for model in (old_model, pir_model):
        counts = ENGINE.load(model, FP32).node_counts()
        assert (counts.int8, counts.quantizable, counts.fallbacks) == (0, 4, ())


def test_a_float_model_does_not_load_as_int8(old_model: Path, pir_model: Path) -> None:
    for model in (old_model, pir_model):
        with pytest.raises(QuantfleetError) as caught:
            ENGINE.load(model, INT8)
        assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED


def test_both_formats_give_the_same_float_outputs(old_model: Path, pir_model: Path) -> None:
    images = pictures(4)
    np.testing.assert_allclose(infer(pir_model, FP32, images), infer(old_model, FP32, images), atol=1e-6)


def test_the_thread_count_is_read_back(old_model: Path) -> None:
    session = ENGINE.load(old_model, LoadOptions("fp32", threads=2))
    session.run({"x": pictures(1)})
    settings = session.settings_in_effect()
    assert (settings["threads"], settings["onednn"]) == ("2", "true")


def test_another_size_than_the_declared_one_runs(old_model: Path) -> None:
    wide = np.ascontiguousarray(pictures(1).repeat(2, axis=3))
    assert infer(old_model, FP32, wide).shape == (1, 10)


def test_a_wrong_input_is_an_error_that_names_it(old_model: Path) -> None:
    session = ENGINE.load(old_model, FP32)
    for feeds in ({}, {"x": pictures(1).astype(np.float64)}, {"x": pictures(1)[:, :2]}):
        with pytest.raises(QuantfleetError) as caught:
            session.run(feeds)
        assert caught.value.code is ErrorCode.ENGINE_FAILED


@pytest.mark.parametrize(
    ("isa", "form"), [(("avx2",), HEADROOM), (("avx2", "avx512_vnni"), PLAIN), (("avx2", "avx_vnni"), PLAIN)]
)
def test_the_preferred_form_depends_on_whether_products_saturate(isa: tuple[str, ...], form: str) -> None:
    assert ENGINE.preferred_form(isa, "int8") == form
