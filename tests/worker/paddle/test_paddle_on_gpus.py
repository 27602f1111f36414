"""Paddle's engines for GPUs, as far as they go without one: what they make of a model, its shapes, and of this machine.

Paddle's own collecting of shapes is real here; nothing of TensorRT is.
"""

import ctypes
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.base import Array, Engine, LoadOptions
from quantfleet_worker.engines.paddle_cuda.bound import Outputs, allocate
from quantfleet_worker.engines.paddle_cuda.calibration import alike
from quantfleet_worker.engines.paddle_cuda.model import open_model, shapes_at
from quantfleet_worker.engines.paddle_cuda.plan import Form
from quantfleet_worker.engines.paddle_cuda.predictors import collect_shapes
from quantfleet_worker.engines.paddle_cuda.workplace import Workplace
from quantfleet_worker.engines.paddle_gpu import ENGINE as GPU
from quantfleet_worker.engines.paddle_tensorrt import ENGINE as TENSORRT
from quantfleet_worker.models.paddle_program import load_paddle
from quantfleet_worker.quantizers.paddle_tensorrt import QDQ, TABLE, quantize

from .conftest import SHAPE, Calibrated, pictures

FACTS = {"gpu": "Tesla T4 (compute capability 7.5)", "paddle": "2.6.2"}


@pytest.fixture(scope="module")
def forms(old_model: Path, calibrated: Calibrated, tmp_path_factory: pytest.TempPathFactory) -> dict[Form, Path]:
    """The model in every form; of the native one the table is empty."""
    folder = tmp_path_factory.mktemp("forms")
    quantize(old_model, calibrated.table, QDQ, folder / QDQ)
    quantize(old_model, calibrated.table, TABLE, folder / TABLE)
    native = folder / "native"
    (native / "_opt_cache").mkdir(parents=True)
    for path in old_model.glob("inference.pd*"):
        (native / path.name).write_bytes(path.read_bytes())
    (native / "_opt_cache" / "trt_calib_77").write_text("TRT-8503-EntropyCalibration2\n")
    return {Form.FLOAT: old_model, Form.QDQ: folder / QDQ, Form.TABLE: folder / TABLE, Form.NATIVE: native}


@pytest.mark.parametrize("form", list(Form))
def test_the_form_of_a_model_is_seen_in_its_files(forms: dict[Form, Path], form: Form) -> None:
    assert open_model(forms[form]).form is form


def test_all_layers_of_a_float_program_with_a_table_may_run_in_int8(forms: dict[Form, Path]) -> None:
    counts = {form: len(open_model(path).meant.quantized) for form, path in forms.items()}
    assert counts == {Form.FLOAT: 0, Form.QDQ: 3, Form.TABLE: 4, Form.NATIVE: 4}


def test_a_table_changes_the_models_digest(forms: dict[Form, Path]) -> None:
    digests = {open_model(path).digest() for path in forms.values()}
    assert len(digests) == len(forms)
    assert open_model(forms[Form.TABLE]).digest() in digests


def test_a_pir_program_is_refused_for_paddle_cannot_read_it_there(pir_model: Path) -> None:
    with pytest.raises(QuantfleetError, match="PIR") as caught:
        open_model(pir_model)
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED


def test_the_shapes_that_a_job_gives_are_those_that_may_be_bound(old_model: Path) -> None:
    model = open_model(old_model)
    assert shapes_at(model.expected(()), 4) == {"x": (4, *SHAPE[1:])}
    expected = model.expected((("x", (4, 3, 64, 48)),))
    assert expected["x"][0] == (None, 3, 64, 48)
    assert shapes_at(expected, 4) == {"x": (4, 3, 64, 48)}


def test_shapes_with_another_open_axis_are_not_known_before_a_batch_is_bound() -> None:
    assert shapes_at({"ids": ((None, None), np.dtype(np.int64))}, 4) is None


def test_paddle_notes_the_shapes_of_all_tensors_over_the_batches_to_come(forms: dict[Form, Path]) -> None:
    for form in (Form.FLOAT, Form.QDQ):
        model = open_model(forms[form])
        workplace = Workplace(model, FACTS, None)
        assert not workplace.shapes.exists()
        batches = [{"x": (batch, *SHAPE[1:])} for batch in (1, 4, 4)]
        collect_shapes(load_paddle(), workplace, model.signature.inputs, batches)
        noted = workplace.shapes.read_text()
        (first,) = (part for part in noted.split("shape_range_info {") if 'name: "x"\n' in part)
        assert [f"{kind}_shape: {size}" in first for kind, size in (("min", 1), ("max", 4), ("opt", 4))] == [True] * 3
        assert 'name: "relu_0.tmp_0"' in noted


def test_a_shape_that_the_model_cannot_take_is_an_error_that_names_it(old_model: Path) -> None:
    model = open_model(old_model)
    with pytest.raises(QuantfleetError, match=r"x.*5, 32, 32") as caught:
        collect_shapes(
            load_paddle(), Workplace(model, FACTS, None), model.signature.inputs, [{"x": (1, 5, *SHAPE[2:])}]
        )
    assert caught.value.code is ErrorCode.ENGINE_FAILED


def test_a_folder_that_nobody_keeps_ends_with_its_workplace(old_model: Path) -> None:
    workplace = Workplace(open_model(old_model), FACTS, None)
    folder = workplace.program.parent
    assert workplace.parameters.exists()
    del workplace
    gc.collect()
    assert not folder.exists()


def test_engines_are_found_again_for_the_same_facts_only(old_model: Path, tmp_path: Path) -> None:
    model = open_model(old_model)
    first = Workplace(model, FACTS, tmp_path)
    assert not first.engines()
    (first.program.parent / "_opt_cache" / "trt_serialized_9").write_bytes(b"an engine")
    assert list(Workplace(model, FACTS, tmp_path).engines()) == ["trt_serialized_9"]
    other = Workplace(model, {**FACTS, "gpu": "NVIDIA L4 (compute capability 8.9)"}, tmp_path)
    assert not other.engines()
    assert other.program != first.program


def test_tables_lie_where_paddle_looks_for_them(forms: dict[Form, Path], tmp_path: Path) -> None:
    native = Workplace(open_model(forms[Form.NATIVE]), FACTS, None)
    assert [path.name for path in native.tables()] == ["trt_calib_77"]
    assert native.tables()[0].parent == native.program.parent / "_opt_cache"
    written = Workplace(open_model(forms[Form.TABLE]), FACTS, None)
    assert written.tables() == []
    for key in ("5", "6"):
        written.set_tables({f"trt_calib_{key}": b"TRT-8503-EntropyCalibration2\n"})
    assert [path.name for path in written.tables()] == ["trt_calib_6"]


@pytest.fixture
def predictor(old_model: Path) -> Any:
    """A predictor on the CPU, which shares memory as one on a GPU does."""
    inference = load_paddle().inference
    config = inference.Config(str(old_model / "inference.pdmodel"), str(old_model / "inference.pdiparams"))
    config.disable_gpu()
    config.disable_mkldnn()
    return inference.create_predictor(config)


def at(address: int, values: Array) -> Array:
    """What lies at an address, as an array like another."""
    held = (ctypes.c_uint8 * values.nbytes).from_address(address)
    return np.frombuffer(held, values.dtype).reshape(values.shape)


def test_a_predictor_reads_and_writes_memory_that_it_is_given(predictor: Any) -> None:
    paddle, images = load_paddle(), pictures(2)
    given = allocate(paddle, images.shape, images.dtype, "x")
    np.copyto(at(given.address, images), images)
    assert given.nbytes == images.nbytes
    predictor.get_input_handle("x").share_external_data(given.tensor)
    outputs = Outputs(paddle, predictor)
    predictor.run()
    ((name, first),) = outputs.own().items()
    outputs.share({name: first})
    np.copyto(at(given.address, images), images[::-1])
    predictor.run()
    tensor = outputs.tensors()[name]
    assert (tensor.shape, tensor.dtype) == (first.shape, first.dtype)
    np.testing.assert_allclose(at(tensor.address, first), first[::-1], atol=1e-6)
    outputs.require({name: at(tensor.address, first)})
    with pytest.raises(QuantfleetError, match="does not write output"):
        outputs.require({name: first})


def test_an_output_whose_shape_changes_is_noticed(predictor: Any) -> None:
    outputs = Outputs(load_paddle(), predictor)
    handle = predictor.get_input_handle("x")
    handle.copy_from_cpu(pictures(2))
    predictor.run()
    outputs.share(outputs.own())
    handle.copy_from_cpu(pictures(1))
    predictor.run()
    with pytest.raises(QuantfleetError, match=r"had shape .2, 10. and now has .1, 10."):
        outputs.tensors()


def test_a_type_that_paddle_does_not_share_is_refused() -> None:
    with pytest.raises(QuantfleetError, match="int8") as caught:
        allocate(load_paddle(), (2, 2), np.dtype(np.int8), "codes")
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED


@pytest.mark.parametrize("engine", [GPU, TENSORRT])
def test_a_worker_without_paddle_for_gpus_is_told_how_to_get_it(engine: Engine, old_model: Path) -> None:
    for act in (engine.version, lambda: engine.load(old_model, LoadOptions("fp32", threads=1))):
        with pytest.raises(QuantfleetError, match="paddlepaddle-gpu is not installed") as caught:
            act()
        assert caught.value.code is ErrorCode.ENGINE_MISSING
        assert f"--interpreter {engine.name}=" in caught.value.todo


def test_paddles_own_kernels_run_no_quantized_model(forms: dict[Form, Path]) -> None:
    with pytest.raises(QuantfleetError, match="quantized") as caught:
        GPU.load(forms[Form.QDQ], LoadOptions("fp16", threads=1))
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED
    with pytest.raises(QuantfleetError, match="int8"):
        GPU.load(forms[Form.QDQ], LoadOptions("int8", threads=1))


def test_int8_of_a_float_model_is_refused_before_anything_is_looked_for(old_model: Path) -> None:
    with pytest.raises(QuantfleetError, match="needs scales"):
        TENSORRT.load(old_model, LoadOptions("int8+fp16", threads=1))


def test_a_quantized_model_is_not_calibrated_again(forms: dict[Form, Path], tmp_path: Path) -> None:
    with pytest.raises(QuantfleetError, match="quantized already") as caught:
        TENSORRT.calibrate_natively(forms[Form.QDQ], [], LoadOptions("int8+fp16", threads=1), tmp_path)
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED


def test_samples_of_unlike_shapes_are_not_given_to_a_calibrator() -> None:
    samples = [{"x": np.zeros((1, 3, size, 8), np.float32)} for size in (8, 8, 9)]
    given = alike(samples, {"x": (1, 3, 8, 8)})
    assert [len(next(given)) for _ in range(2)] == [1, 1]
    with pytest.raises(QuantfleetError, match=r"sample 3 has shape .*9, 8.* and the first"):
        next(given)


@pytest.mark.parametrize(
    ("isa", "gpu", "tensorrt"),
    [
        (("avx2", "avx512_vnni"), (), ()),
        (("sm_61",), ("fp32",), ("fp32",)),
        (("sm_60",), ("fp32", "fp16"), ("fp32", "fp16")),
        (("sm_75",), ("fp32", "fp16"), ("fp32", "fp16", "int8+fp16", "int8+fp16+pinned")),
    ],
)
def test_what_a_device_has_is_known_without_paddle(
    isa: tuple[str, ...], gpu: tuple[str, ...], tensorrt: tuple[str, ...]
) -> None:
    assert (GPU.precisions_on(isa), TENSORRT.precisions_on(isa)) == (gpu, tensorrt)


def test_the_form_that_keeps_the_head_in_float_is_preferred() -> None:
    assert TENSORRT.preferred_form(("sm_75",), "int8+fp16") == QDQ
    assert GPU.preferred_form(("sm_75",), "fp16") == ""
