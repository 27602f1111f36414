"""The text example: its texts are reproducible, nothing is said twice, and the network tells what a text is about."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_worker.preprocessing.configuration import parse

EXAMPLE = Path(__file__).parents[2] / "examples" / "text"
INPUTS = tuple(InputTensor(name, (1, 48), "int64") for name in ("input_ids", "attention_mask"))


def _prepare(directory: Path) -> Path:
    subprocess.run([sys.executable, EXAMPLE / "prepare.py", directory], check=True)
    return directory


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _prepare(tmp_path_factory.mktemp("texts"))


def _feeds(path: Path) -> dict[str, NDArray[np.int64]]:
    preprocess = parse((EXAMPLE / "model" / "tokenizer.json").read_text(encoding="utf-8")).preprocessor(INPUTS)
    return dict(preprocess(path.read_bytes(), path.name).feeds)


def test_the_example_writes_the_same_texts_each_time(data: Path, tmp_path: Path) -> None:
    again = _prepare(tmp_path)
    names = {path.relative_to(data) for path in data.rglob("*.txt")}
    assert names == {path.relative_to(again) for path in again.rglob("*.txt")}
    assert all((data / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_no_calibration_text_is_evaluated(data: Path) -> None:
    calibration = {path.read_text() for path in (data / "calibration").iterdir()}
    evaluation = {path.read_text() for path in (data / "evaluation").iterdir()}
    assert len(list((data / "calibration").iterdir())) == 96
    assert len(list((data / "evaluation").iterdir())) == 600
    assert not calibration & evaluation


def test_every_text_fits_the_network_uncut(data: Path) -> None:
    lengths = [int(_feeds(path)["attention_mask"].sum()) for path in sorted((data / "evaluation").iterdir())[:100]]
    assert 5 < min(lengths) < max(lengths) < 48


def test_the_network_tells_what_texts_are_about_that_it_never_saw(data: Path) -> None:
    from paddle import inference

    model = EXAMPLE / "model" / "inference"
    config = inference.Config(f"{model}.json", f"{model}.pdiparams")
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(1)
    predictor = inference.create_predictor(config)
    lines = [line.split() for line in (data / "evaluation.txt").read_text().splitlines()[:200]]
    hits = 0
    for name, label in lines:
        for entry, values in _feeds(data / "evaluation" / name).items():
            predictor.get_input_handle(entry).copy_from_cpu(values)
        predictor.run()
        logits = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
        hits += int(logits.argmax()) == int(label)
    assert hits / len(lines) >= 0.9


def test_every_path_in_the_job_file_is_one_that_the_example_has(data: Path) -> None:
    job = yaml.safe_load((EXAMPLE / "job.yaml").read_text())
    assert (EXAMPLE / job["model"]["path"]).is_dir()
    for path in (job["calibration"]["data"]["path"], *job["evaluate"]["data"].values()):
        assert (data / Path(path).relative_to("data")).exists()


def test_the_committed_files_are_small_and_name_no_path_of_the_machine_that_made_them() -> None:
    files = list((EXAMPLE / "model").iterdir())
    assert {path.name for path in files} == {"inference.json", "inference.pdiparams", "tokenizer.json"}
    assert sum(path.stat().st_size for path in files) < 1024 * 1024
    assert not any(b".py" in path.read_bytes() for path in files if path.suffix != ".pdiparams")
