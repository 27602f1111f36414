"""The digits example: its pictures are reproducible, its two models are one network, and it recognizes digits."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import yaml
from numpy.typing import NDArray

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_worker.preprocessing.configuration import parse

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"


def _prepare(directory: Path) -> Path:
    subprocess.run([sys.executable, EXAMPLE / "prepare.py", directory], check=True)
    return directory


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _prepare(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def held_back(data: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The held-back digits as the network's input, (500, 3, 64, 64), and their labels."""
    inputs = (InputTensor("x", (1, 3, 64, 64), "float32"),)
    preprocess = parse((EXAMPLE / "inference_cls.yaml").read_text()).preprocessor(inputs)
    lines = [line.rsplit(" ", 1) for line in (data / "evaluation.txt").read_text().splitlines()]
    inputs = [preprocess((data / "evaluation" / name).read_bytes(), name).feeds["x"] for name, _ in lines]
    return np.concatenate(inputs), np.array([int(label) for _, label in lines])


def _onnx_probabilities(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(EXAMPLE / "model" / "digits.onnx"), options, providers=["CPUExecutionProvider"])
    outputs = [session.run(None, {"x": picture[np.newaxis]})[0] for picture in pictures]
    return np.concatenate([np.asarray(output, np.float32) for output in outputs])


def test_the_example_writes_the_same_pictures_each_time(data: Path, tmp_path: Path) -> None:
    again = _prepare(tmp_path)
    names = {path.relative_to(data) for path in data.rglob("*") if path.is_file()}
    assert names == {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
    assert all((data / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_no_calibration_picture_is_evaluated(data: Path) -> None:
    calibration = {path.read_bytes() for path in (data / "calibration").iterdir()}
    evaluation = {path.read_bytes() for path in (data / "evaluation").iterdir()}
    assert (len(calibration), len(evaluation)) == (96, 500)
    assert not calibration & evaluation


def test_the_network_recognizes_digits_that_it_never_saw(
    held_back: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    pictures, labels = held_back
    hits = _onnx_probabilities(pictures).argmax(axis=1) == labels
    assert hits.mean() >= 0.97


def test_the_paddle_form_and_the_onnx_form_are_one_network(
    held_back: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    from paddle import inference

    pictures = held_back[0][:20]
    model = EXAMPLE / "model" / "paddle" / "inference"
    config = inference.Config(f"{model}.pdmodel", f"{model}.pdiparams")
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(1)
    predictor = inference.create_predictor(config)
    entry = predictor.get_input_handle(predictor.get_input_names()[0])
    entry.copy_from_cpu(pictures)
    predictor.run()
    found = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
    np.testing.assert_allclose(found, _onnx_probabilities(pictures), atol=1e-5)


def test_every_path_in_the_job_file_is_one_that_the_example_has(data: Path) -> None:
    job = yaml.safe_load((EXAMPLE / "job.yaml").read_text())
    assert all((EXAMPLE / model["path"]).exists() for model in job["models"])
    assert (EXAMPLE / job["calibration"]["data"]["preprocess"]).is_file()
    for path in (job["calibration"]["data"]["path"], *job["evaluate"]["data"].values()):
        assert (data / Path(path).relative_to("data")).exists()


def test_the_committed_weights_are_small_and_name_no_path_of_the_machine_that_made_them() -> None:
    files = [path for path in (EXAMPLE / "model").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".onnx", ".pdmodel", ".pdiparams"}
    assert sum(path.stat().st_size for path in files) < 2 * 1024 * 1024
    assert not any(b".py" in path.read_bytes() for path in files if path.suffix != ".pdiparams")
