"""An `.nb` file of Paddle Lite in a job file: it is looked into, and a wrong one is refused before it is sent."""

import shutil
from pathlib import Path

import pytest
from tests.worker.phones.lite_models import DATA, DYNAMIC, FLOAT, INT8, X86

from quantfleet.jobfile.document import read_text
from quantfleet.jobfile.prepare import prepare
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.spec import InputShape, ModelSpec

HEAD = "apiVersion: quantfleet/v1\nkind: Job\nname: a\n"
BESIDE = "model: {path: paddle}\nquantization: [{method: given, path: theirs.nb}]\n"
ALONE = "model: {path: theirs.nb}\n"


def model_of(text: str, folder: Path, name: str = INT8) -> ModelSpec:
    if not (folder / "theirs.nb").exists():
        shutil.copyfile(DATA / name, folder / "theirs.nb")
    (model,) = prepare(read_text(HEAD + text, "job.yaml", folder)).spec.models
    return model


def refused(text: str, folder: Path, name: str = INT8) -> QuantfleetError:
    with pytest.raises(QuantfleetError) as caught:
        model_of(text, folder, name)
    return caught.value


@pytest.mark.parametrize("name", [INT8, DYNAMIC])
def test_a_file_by_itself_is_a_quantized_model(folder: Path, name: str) -> None:
    model = model_of("model: {path: theirs.nb, input_shapes: {x: [1, 3, 64, 64]}}\n", folder, name)
    assert (model.format, model.quantized, model.quantizations) == ("paddle-lite", True, ("given",))
    assert [ref.name for ref in model.files] == ["theirs.nb"]
    assert model.targets[0].precisions == ("int8",)
    assert model.input_shapes == (InputShape("x", (1, 3, 64, 64)),)


def test_a_file_is_given_beside_its_paddle_model(folder: Path) -> None:
    model = model_of(BESIDE, folder)
    assert model.given is not None
    assert (model.format, model.quantized, model.given.format) == ("paddle", False, "paddle-lite")
    assert [ref.name for ref in model.given.files] == ["theirs.nb"]
    assert model.targets[0].precisions == ("fp32", "int8")


@pytest.mark.parametrize(("text", "place"), [(ALONE, "job.yaml:4:15: "), (BESIDE, "job.yaml:5:38: ")])
@pytest.mark.parametrize(
    ("name", "said", "todo"),
    [
        (X86, "theirs.nb is made for x86, and this device is arm", "valid_places=arm"),
        (FLOAT, "theirs.nb is not quantized: none of its 3 layers is in INT8", "opt converts it"),
    ],
)
def test_a_file_for_another_target_or_in_float_is_refused_at_its_place(
    folder: Path, text: str, place: str, name: str, said: str, todo: str
) -> None:
    error = refused(text, folder, name)
    assert error.code is ErrorCode.MODEL_UNSUPPORTED
    assert error.what.startswith(place)
    assert said in error.what
    assert todo in error.todo


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ((DATA / INT8).read_bytes()[:5000], "it ends 7434 bytes before its graph does"),
        (b"<html>a page that says that there is no such file</html>", "its format is number"),
        (b"", "it is shorter than its own head"),
    ],
)
def test_a_truncated_or_foreign_file_is_refused_at_its_place(folder: Path, content: bytes, said: str) -> None:
    (folder / "theirs.nb").write_bytes(content)
    error = refused(ALONE, folder)
    assert (error.code, error.what.startswith("job.yaml:4:15: ")) == (ErrorCode.MODEL_UNREADABLE, True)
    assert said in error.what


def test_a_path_that_is_no_file_of_opt_is_refused_whatever_its_format_is_said_to_be(folder: Path) -> None:
    for path in ("paddle", "mobilenet.onnx"):
        error = refused(f"model: {{path: {path}, format: paddle-lite}}\n", folder)
        assert f"{path} is no .nb file" in error.what


def test_a_file_of_paddle_lite_is_neither_calibrated_nor_quantized(folder: Path) -> None:
    calibration = "calibration: {data: {path: images, preprocess: inference_cls.yaml}}\n"
    assert "is quantized already, and the job calibrates it" in refused(ALONE + calibration, folder).what
    assert "is quantized already, and the job quantizes it" in refused(ALONE + "quantization: [dynamic]\n", folder).what
