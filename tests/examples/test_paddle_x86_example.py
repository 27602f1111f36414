"""The example of Paddle's x86 tables: its job reads what its script writes, and its table says what a report says."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

from quantfleet.jobfile.document import read_text

EXAMPLE = Path(__file__).parents[2] / "examples" / "paddle-x86-int8"


def test_the_job_reads_what_the_script_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, EXAMPLE / "prepare.py", tmp_path / "data", "mobilenet_v2"], check=True)
    job = yaml.safe_load((EXAMPLE / "job.yaml").read_text())
    assert {Path(model["path"]).parent.name for model in job["models"]} == {"data"}
    job["models"] = [model for model in job["models"] if model["name"] == "mobilenet_v2"]
    document = read_text(yaml.safe_dump(job), "job.yaml", tmp_path)
    (model,) = document.models
    assert [path.suffix for path in model.files.files] == [".pdmodel", ".pdiparams"]
    with np.load(tmp_path / "data" / "texts" / "0.npz") as sample:
        assert sample["input_ids"].shape == (128,)


def test_the_table_has_a_line_for_each_network_and_engine_beside_the_published_speed_up(tmp_path: Path) -> None:
    def result(engine: str, precision: str, rate: float, **more: object) -> dict[str, object]:
        key = {"model": "vgg16", "threads": 1, "engine": engine, "precision": precision}
        return {**key, "throughput_per_s": rate, "quiet": precision == "int8", **more}

    report = {
        "models": [{"name": "vgg16"}],
        "results": [
            result("openvino-cpu", "fp32", 3.0),
            result("openvino-cpu", "int8", 12.0, speedup={"value": 4.0}, int8_nodes=15, quantizable_nodes=16),
            result("paddle-cpu", "fp32", 2.5),
            result("paddle-cpu", "int8", 9.5, speedup={"value": 3.8}, int8_nodes=14, quantizable_nodes=16),
            result("onnxruntime-cpu", "fp32", 3.0),
        ],
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    command = [sys.executable, EXAMPLE / "table.py", tmp_path / "report.json"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert lines[2:] == [
        "| vgg16 | 1 | paddle-cpu | 2.50 | 9.50 | 3.80 | 3.07 | 14 of 16 |",
        "| vgg16 | 1 | openvino-cpu | 3.00 | 12.00 | 4.00 | 3.07 | 15 of 16 |",
        "",
        "2 of 5 measurements were quiet.",
    ]
