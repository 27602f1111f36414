"""Paddle model directories: files, both formats, normal form and the proven name map."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_files import find_files, read_signature
from quantfleet_worker.models.paddle_model import inspect, to_onnx
from quantfleet_worker.models.paddle_names import map_names
from quantfleet_worker.models.paddle_normalize import normalize
from quantfleet_worker.models.paddle_pir import load_program, prove
from quantfleet_worker.models.paddle_program import CONVOLUTIONS, PaddleProgram, load_paddle, old_programs

from .conftest import SHAPE, Calibrated, export, pictures


def run(program: PaddleProgram, feeds: dict[str, Any]) -> list[Any]:
    values = program.run(feeds, program.fetches)
    return [values[name] for name in program.fetches]


def test_the_files_of_both_formats_are_found(old_model: Path, pir_model: Path) -> None:
    assert find_files(old_model).program.name == "inference.pdmodel"
    assert find_files(pir_model).program.name == "inference.json"


def test_the_signature_tells_inputs_of_both_formats(old_model: Path, pir_model: Path) -> None:
    for model in (old_model, pir_model):
        signature = read_signature(find_files(model))
        assert signature.inputs == {"x": ((None, *SHAPE[1:]), np.dtype(np.float32))}
        assert not signature.layers.quantized


def test_a_directory_without_a_model_is_not_found(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "absent"):
        with pytest.raises(QuantfleetError) as caught:
            find_files(directory)
        assert caught.value.code is ErrorCode.MODEL_NOT_FOUND


@pytest.mark.parametrize("lost", ["inference.pdmodel", "inference.pdiparams"])
def test_a_model_that_lacks_a_file_is_unreadable_and_the_file_is_named(
    old_model: Path, tmp_path: Path, lost: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(old_model, model)
    (model / lost).unlink()
    with pytest.raises(QuantfleetError, match=lost) as caught:
        find_files(model)
    assert caught.value.code is ErrorCode.MODEL_UNREADABLE


def test_two_models_in_one_directory_are_an_error(old_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(old_model, model)
    shutil.copy(model / "inference.pdmodel", model / "other.pdmodel")
    with pytest.raises(QuantfleetError, match="several models"):
        find_files(model)


@pytest.mark.parametrize("part", ["inference.pdmodel", "inference.json", "inference.pdiparams"])
@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_truncated_model_is_unreadable(
    old_model: Path, pir_model: Path, tmp_path: Path, part: str, kept: float
) -> None:
    for source in (old_model, pir_model):
        if not (source / part).exists():
            continue
        model = tmp_path / source.name
        shutil.copytree(source, model)
        content = (model / part).read_bytes()
        (model / part).write_bytes(content[: int(len(content) * kept)])
        with pytest.raises(QuantfleetError) as caught:
            to_onnx(find_files(model), tmp_path / "reference.onnx")
        assert caught.value.code is ErrorCode.MODEL_UNREADABLE


def test_the_normal_form_computes_the_same_without_batch_normalisation(old_model: Path) -> None:
    feeds = {"x": pictures(4)}
    original = load_program(find_files(old_model))
    assert "batch_norm" in {operator.type for operator in original.operators}
    normal = normalize(load_program(find_files(old_model)))
    assert not {"batch_norm", "reshape2"} & {operator.type for operator in normal.operators}
    np.testing.assert_allclose(run(normal, feeds)[0], run(original, feeds)[0], atol=1e-5)


def test_a_variable_that_is_written_twice_gets_two_names() -> None:
    paddle = load_paddle()
    with old_programs():
        program = paddle.static.Program()
        with paddle.static.program_guard(program):
            x = paddle.static.data("x", [2, 3])
            block = program.global_block()
            block.create_var(name="y", shape=[2, 3], dtype="float32")
            block.append_op(type="scale", inputs={"X": [x]}, outputs={"Out": ["y"]}, attrs={"scale": -1.0})
            block.append_op(type="relu", inputs={"X": ["y"]}, outputs={"Out": ["y"]})
        executor = paddle.static.Executor(paddle.CPUPlace())
    normal = normalize(PaddleProgram(program, paddle.static.Scope(), executor, ("x",), ("y",)))
    values = normal.run({"x": np.array([[1, -2, 3], [0, 1, -1]], np.float32)}, ["y", *normal.fetches])
    assert normal.fetches == ("y.value2",)
    assert values["y"].min() == -3
    assert values["y.value2"].min() == 0


def test_a_reshape_by_a_tensors_own_shape_gets_constants(tmp_path: Path) -> None:
    paddle = load_paddle()

    class Reshaping(paddle.nn.Layer):  # type: ignore[name-defined,misc] # paddle's classes are loaded untyped
        def __init__(self) -> None:
            super().__init__()
            self.head = paddle.nn.Linear(5, 2)

        def forward(self, x: Any) -> Any:
            shape = paddle.shape(x)
            return self.head(paddle.reshape(x, [shape[0], shape[1]]))

    model = export(Reshaping(), tmp_path, (None, 5, 1, 1), pir=False)
    feeds = {"x": np.arange(10, dtype=np.float32).reshape(2, 5, 1, 1)}
    normal = normalize(load_program(find_files(model)))
    assert {"reshape2", "matmul_v2"} <= {operator.type for operator in normal.operators}
    assert not {"shape", "slice"} & {operator.type for operator in normal.operators}
    assert run(normal, feeds)[0].shape == (2, 2)


@pytest.mark.parametrize("pir", [False, True])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_an_enlargement_by_a_factor_gets_its_size_from_the_jobs_shapes(tmp_path: Path, mode: str, pir: bool) -> None:
    nn = load_paddle().nn

    class Enlarging(nn.Layer):  # type: ignore[name-defined,misc] # paddle's classes are loaded untyped
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2D(3, 4, 3, 2, 1)

        def forward(self, x: Any) -> Any:
            return nn.functional.interpolate(self.conv(x), scale_factor=2, mode=mode)

    model = export(Enlarging(), tmp_path, (None, 3, None, None), pir=pir)
    reference, _ = inspect(model, {"x": (1, 3, 12, 8)})
    feeds = {"x": pictures(1)[:, :, :12, :8]}
    session = ort.InferenceSession(reference, providers=["CPUExecutionProvider"])
    (expected,) = run(load_program(find_files(model)), feeds)
    np.testing.assert_allclose(session.run(None, feeds)[0], expected, atol=1e-5)


def test_a_pir_program_is_rewritten_to_the_same_bits(old_model: Path, pir_model: Path) -> None:
    feeds = {"x": pictures(4)}
    rewritten, original = load_program(find_files(pir_model)), load_program(find_files(old_model))
    np.testing.assert_array_equal(run(rewritten, feeds)[0], run(original, feeds)[0])


def test_a_pir_program_that_casts_slices_and_joins_is_rewritten(tmp_path: Path) -> None:
    paddle = load_paddle()

    class Joining(paddle.nn.Layer):  # type: ignore[name-defined,misc] # paddle's classes are loaded untyped
        def __init__(self) -> None:
            super().__init__()
            self.head = paddle.nn.Linear(5, 2)

        def forward(self, x: Any) -> Any:
            whole = paddle.cast(paddle.cast(x, "int64"), "float32")
            return self.head(paddle.concat([x[:, :2], whole[:, 2:]], axis=1))

    files = find_files(export(Joining(), tmp_path, (None, 5), pir=True))
    prove(files, load_program(files), {"x": np.linspace(-3, 3, 10, dtype=np.float32).reshape(2, 5)})


def test_a_wrong_rewriting_of_a_pir_program_is_noticed(pir_model: Path) -> None:
    files = find_files(pir_model)
    program = normalize(load_program(files))
    prove(files, program, {"x": pictures(2)})
    weight = next(operator.input("Filter")[0] for operator in program.operators if operator.type == "conv2d")
    program.set_parameter(weight, program.parameter(weight) * 1.01)
    with pytest.raises(QuantfleetError) as caught:
        prove(files, program, {"x": pictures(2)})
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED


def test_a_pir_operator_without_an_old_form_is_named(tmp_path: Path) -> None:
    paddle = load_paddle()

    class Cumulating(paddle.nn.Layer):  # type: ignore[name-defined,misc] # paddle's classes are loaded untyped
        def __init__(self) -> None:
            super().__init__()
            self.head = paddle.nn.Linear(5, 2)

        def forward(self, x: Any) -> Any:
            return self.head(paddle.cumsum(x, 1))

    model = export(Cumulating(), tmp_path, (None, 5), pir=True)
    with pytest.raises(QuantfleetError, match="cumsum") as caught:
        load_program(find_files(model))
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED


def test_every_activation_and_weight_has_its_native_name(old_model: Path, calibrated: Calibrated) -> None:
    graph = calibrated.graph
    assert graph.unmapped == ()
    assert len(graph.native_weights) == len(graph.weights) == 4
    program = normalize(load_program(find_files(old_model)))
    convolutions = [operator for operator in program.operators if operator.type in CONVOLUTIONS]
    assert {operator.input("Input")[0] for operator in convolutions} <= set(graph.native_names.values())
    assert {operator.input("Filter")[0] for operator in convolutions} <= set(graph.native_weights.values())


def test_a_tensor_is_not_taken_for_what_it_was_before_a_bias_of_zero(tmp_path: Path) -> None:
    nn = load_paddle().nn

    class Bottleneck(nn.Layer):  # type: ignore[name-defined,misc] # paddle's classes are loaded untyped
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2D(3, 4, 1, bias_attr=False), nn.BatchNorm2D(4), nn.Conv2D(4, 4, 1, bias_attr=False)
            )

        def forward(self, x: Any) -> Any:
            return self.layers(x)

    model = export(Bottleneck(), tmp_path, (None, 3, 8, 8), pir=False)
    _, graph = inspect(model, {"x": (1, 3, 8, 8)})
    layers = [item for item in normalize(load_program(find_files(model))).operators if item.type in CONVOLUTIONS]
    assert {layer.input("Input")[0] for layer in layers} <= set(graph.native_names.values())


def test_what_is_taken_out_of_a_program_is_not_read_again(tmp_path: Path) -> None:
    """A residual sum of a convolution whose own bias is a sum that is written anew: what it adds is no longer there."""
    nn = load_paddle().nn

    class Residual(nn.Layer):  # type: ignore[name-defined,misc] # paddle's classes are loaded untyped
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2D(3, 4, 1), nn.Conv2D(4, 4, 1)

        def forward(self, x: Any) -> Any:
            first = self.first(x)
            return self.second(first) + first

    model = export(Residual(), tmp_path, (None, 3, 8, 8), pir=False)
    program = normalize(load_program(find_files(model)))
    sums = [operator for operator in program.operators if operator.type == "elementwise_add"]
    assert [program.is_parameter(operator.input("Y")[0]) for operator in sums] == [True, True, False]
    removed = sums[0]
    program.remove(removed)
    with pytest.raises(AttributeError):
        _ = removed.type


def test_a_pir_model_is_mapped_like_the_old_format(pir_model: Path, calibrated: Calibrated) -> None:
    _, graph = inspect(pir_model, {"x": SHAPE})
    assert graph.unmapped == ()
    assert len(graph.native_names) == len(calibrated.graph.native_names)


def test_inspecting_twice_gives_the_same_reference(old_model: Path, calibrated: Calibrated) -> None:
    reference, graph = inspect(old_model, {"x": SHAPE})
    assert reference == calibrated.reference
    assert graph == calibrated.graph


def test_an_input_shape_of_the_job_outweighs_the_declared_one(old_model: Path, tmp_path: Path) -> None:
    larger = (1, 3, 48, 40)
    _, graph = inspect(old_model, {"x": larger})
    assert [tensor.shape for tensor in graph.inputs] == [larger]
    assert graph.unmapped == ()
    with pytest.raises(QuantfleetError) as caught:
        inspect(old_model, {"x": (1, 4, 32, 32)})
    assert caught.value.code is ErrorCode.JOB_INVALID


def test_a_program_with_other_values_is_not_taken_for_the_reference(old_model: Path, calibrated: Calibrated) -> None:
    program = normalize(load_program(find_files(old_model)))
    weight = next(operator.input("Filter")[0] for operator in program.operators if operator.type == "conv2d")
    program.set_parameter(weight, program.parameter(weight) * 1.01)
    with pytest.raises(QuantfleetError) as caught:
        map_names(calibrated.reference, calibrated.graph, program)
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED
