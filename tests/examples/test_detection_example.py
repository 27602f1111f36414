"""The detection example: its pages are reproducible, its two models are one network, and it finds digits."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import yaml
from numpy.typing import NDArray

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_worker.postprocessing.boxes import detections
from quantfleet_worker.postprocessing.suppression import overlaps
from quantfleet_worker.preprocessing.configuration import parse

EXAMPLE = Path(__file__).parents[2] / "examples" / "detection"
CONFIGURATION = parse((EXAMPLE / "infer_cfg.yml").read_text())
PREPROCESS = CONFIGURATION.preprocessor((InputTensor("x", (1, 3, 128, 128), "float32"),))


def _prepare(directory: Path) -> Path:
    subprocess.run([sys.executable, EXAMPLE / "prepare.py", directory], check=True)
    return directory


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _prepare(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def truth(data: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((data / "evaluation.json").read_text())
    return document


@cache
def _session() -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = EXAMPLE / "model" / "detector.onnx"
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(page: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(_session().run(None, {"x": page})[0], np.float32)


def test_the_example_writes_the_same_pages_each_time(data: Path, tmp_path: Path) -> None:
    again = _prepare(tmp_path)
    names = {path.relative_to(data) for path in data.rglob("*") if path.is_file()}
    assert names == {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
    assert all((data / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_the_annotations_are_of_the_pages_and_within_them(data: Path, truth: dict[str, Any]) -> None:
    assert len(list((data / "calibration").iterdir())) == 48
    assert {item["file_name"] for item in truth["images"]} == {path.name for path in (data / "evaluation").iterdir()}
    assert [item["name"] for item in truth["categories"]] == [str(digit) for digit in range(10)]
    for item in truth["annotations"]:
        x, y, width, height = item["bbox"]
        assert min(x, y) >= 0
        assert x + width <= 240
        assert y + height <= 180


def test_the_network_finds_digits_that_it_never_saw(data: Path, truth: dict[str, Any]) -> None:
    found = wanted = 0
    for image in truth["images"][:20]:
        prepared = PREPROCESS((data / "evaluation" / image["file_name"]).read_bytes(), image["file_name"])
        (boxes,) = detections(
            {"y": _run(prepared.feeds["x"])}, [prepared.geometry], CONFIGURATION.suppression, restored=False
        )
        for item in truth["annotations"]:
            if item["image_id"] == image["id"]:
                x, y, width, height = item["bbox"]
                near = overlaps(np.array([x, y, x + width, y + height]), boxes.corners) >= 0.5
                found += bool((near & (boxes.scores >= 0.2) & (boxes.classes == item["category_id"])).any())
                wanted += 1
    assert found / wanted >= 0.9


def test_the_paddle_form_and_the_onnx_form_are_one_network(data: Path) -> None:
    from paddle import inference

    page = PREPROCESS((data / "evaluation" / "0000.png").read_bytes(), "0000.png").feeds["x"]
    model = EXAMPLE / "model" / "paddle" / "inference"
    config = inference.Config(f"{model}.json", f"{model}.pdiparams")
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(1)
    predictor = inference.create_predictor(config)
    predictor.get_input_handle("x").copy_from_cpu(page)
    predictor.run()
    found = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
    np.testing.assert_allclose(found, _run(page), atol=1e-3)


def test_every_path_in_the_job_file_is_one_that_the_example_has(data: Path) -> None:
    job = yaml.safe_load((EXAMPLE / "job.yaml").read_text())
    assert all((EXAMPLE / model["path"]).exists() for model in job["models"])
    assert (EXAMPLE / job["calibration"]["data"]["preprocess"]).is_file()
    for path in (job["calibration"]["data"]["path"], *job["evaluate"]["data"].values()):
        assert (data / Path(path).relative_to("data")).exists()


def test_the_committed_weights_are_small_and_name_no_path_of_the_machine_that_made_them() -> None:
    files = [path for path in (EXAMPLE / "model").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".onnx", ".json", ".pdiparams"}
    assert sum(path.stat().st_size for path in files) < 1024 * 1024
    assert not any(b".py" in path.read_bytes() for path in files if path.suffix != ".pdiparams")
