"""Paddle models that come quantized: what others wrote runs in INT8 as the file says, or is refused with the reason."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.base import LoadOptions
from quantfleet_worker.engines.paddle_cpu import ENGINE
from quantfleet_worker.models.paddle_files import find_files, read_signature
from quantfleet_worker.models.paddle_program import PaddleProgram, load_paddle, old_programs
from quantfleet_worker.models.paddle_quantization import Quantization

from .conftest import SHAPE, Calibrated, network, pictures

INT8 = LoadOptions("int8", threads=1)
FP32 = LoadOptions("fp32", threads=1)
CONVOLUTIONS = ["conv2d", "depthwise_conv2d"]
EVERYTHING = [*CONVOLUTIONS, "matmul_v2"]
FILES = ("inference.pdmodel", "inference.pdiparams")


def post_training(model: Path, out: Path, kinds: list[str], *, onnx_format: bool) -> Path:
    """What PaddleSlim's `quant_post_static` calls."""
    paddle = load_paddle()

    def feeds() -> Iterator[dict[str, Any]]:
        return ({"x": picture[None]} for picture in pictures(16))

    with old_programs(), paddle.static.scope_guard(paddle.static.Scope()):
        quantization = paddle.static.quantization.PostTrainingQuantization(
            paddle.static.Executor(paddle.CPUPlace()),
            str(model),
            paddle.static.global_scope(),
            *FILES,
            data_loader=feeds,
            batch_nums=16,
            algo="abs_max",
            quantizable_op_type=kinds,
            onnx_format=onnx_format,
        )
        quantization.quantize()
        quantization.save_quantized_model(str(out), *FILES)
    return out


@pytest.fixture(scope="module")
def exact(old_model: Path) -> Any:
    return _infer(old_model, FP32)


def _infer(model: Path, options: LoadOptions) -> Any:
    (output,) = ENGINE.load(model, options).run({"x": pictures(32, seed=1)}).values()
    return output


@pytest.mark.parametrize("onnx_format", [True, False])
@pytest.mark.parametrize(("kinds", "quantized"), [(EVERYTHING, 4), (CONVOLUTIONS, 3)])
def test_a_given_model_runs_in_int8_what_its_file_quantizes(
    old_model: Path, exact: Any, tmp_path: Path, kinds: list[str], quantized: int, onnx_format: bool
) -> None:
    model = post_training(old_model, tmp_path, kinds, onnx_format=onnx_format)
    difference = np.abs(_infer(model, INT8) - exact)
    assert 0 < difference.mean() < 0.02
    counts = ENGINE.load(model, INT8).node_counts()
    assert (counts.int8, counts.quantizable) == (quantized, 4)
    assert [kind for kind in counts.ran if "inner_product" in kind] == list(counts.ran[3:])
    assert len(counts.fallbacks) == 4 - quantized


def test_fully_connected_layers_that_a_given_file_quantizes_run_in_int8_one_behind_the_other(
    classifying: tuple[Path, Calibrated], tmp_path: Path
) -> None:
    model = post_training(classifying[0], tmp_path, EVERYTHING, onnx_format=True)
    assert ENGINE.load(model, INT8).node_counts().int8 == 4


def test_what_was_converted_for_onednn_runs_as_it_is(old_model: Path, exact: Any, tmp_path: Path) -> None:
    slim = post_training(old_model, tmp_path / "slim", EVERYTHING, onnx_format=False)
    session = ENGINE.load(converted(slim, tmp_path / "converted", {"fc"}), INT8)
    (output,) = session.run({"x": pictures(32, seed=1)}).values()
    assert 0 < np.abs(output - exact).mean() < 0.02
    assert session.settings_in_effect()["ir_optim"] == "false"
    (product,) = session.node_counts().ran
    assert product.endswith("(inner_product)")


def test_what_was_converted_for_onednn_with_integer_filters_is_refused(old_model: Path, tmp_path: Path) -> None:
    slim = post_training(old_model, tmp_path / "slim", EVERYTHING, onnx_format=False)
    model = converted(slim, tmp_path / "converted", {"conv2d", "fc"})
    _refused(model, INT8, "integer filters")


def test_a_dynamically_quantized_model_is_refused_because_only_paddle_lite_runs_it(
    old_model: Path, tmp_path: Path
) -> None:
    with old_programs():
        weights = load_paddle().static.quantization.WeightQuantization(str(old_model), *FILES)
        weights.quantize_weight_to_int(str(tmp_path), *FILES, quantizable_op_type=CONVOLUTIONS)
    for options in (INT8, FP32):
        _refused(tmp_path / "quantized_model", options, "only Paddle Lite")


@pytest.mark.parametrize("pir", [True, False])
def test_what_paddle_quantization_converted_layer_by_layer_is_refused(tmp_path: Path, pir: bool) -> None:
    paddle = load_paddle()
    observer = importlib.import_module("paddle.quantization.observers").AbsmaxObserver
    post = paddle.quantization.PTQ(paddle.quantization.QuantConfig(activation=observer(), weight=observer()))
    observed = post.quantize(network())
    observed(paddle.to_tensor(pictures(4)))
    guard = paddle.pir_utils.DygraphPirGuard if pir else paddle.pir_utils.DygraphOldIrGuard
    spec = [paddle.static.InputSpec([4, *SHAPE[1:]], "float32", "x")]
    with guard():
        paddle.jit.save(post.convert(observed), str(tmp_path / "inference"), input_spec=spec)
    _refused(tmp_path, INT8, "PIR program" if pir else "paddle.quantization")


def _refused(model: Path, options: LoadOptions, reason: str) -> None:
    with pytest.raises(QuantfleetError, match=reason) as caught:
        ENGINE.load(model, options)
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED


def converted(model: Path, out: Path, kinds: set[str]) -> Path:
    """What `save_quant_model.py` does with a PaddleSlim model, for the operators named."""
    paddle = load_paddle()
    passes = importlib.import_module("paddle.static.quantization.quant2_int8_onednn_pass")
    loaded = PaddleProgram.load(model, "inference")
    with old_programs(), paddle.static.scope_guard(loaded.scope):
        core, place = paddle.base.core, paddle.CPUPlace()
        graph = paddle.base.framework.IrGraph(core.Graph(loaded.program.desc), for_test=True)
        transform = passes.Quant2Int8OnednnPass(kinds, _scope=loaded.scope, _place=place, _core=core)
        program = transform.apply(graph).to_program()
        block = program.global_block()
        paddle.static.save_inference_model(
            str(out / "inference"),
            [block.var(name) for name in loaded.feeds],
            [block.var(name) for name in loaded.fetches],
            loaded.executor,
            program=program,
            clip_extra=False,
        )
    assert read_signature(find_files(out)).layers.how is Quantization.CONVERTED
    return out


@pytest.mark.parametrize(
    ("isa", "said"),
    [
        (("avx2",), "neither AVX-512 nor VNNI"),
        (("avx2", "avx512f"), "AVX-512 without VNNI"),
        (("avx2", "avx512f", "avx512_vnni"), ""),
        (("avx2", "avx_vnni"), ""),
    ],
)
def test_a_user_is_warned_of_a_cpu_without_vnni(isa: tuple[str, ...], said: str) -> None:
    warning = ENGINE.int8_warning(isa)
    assert said in warning
    assert bool(warning) == bool(said)
