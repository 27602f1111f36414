"""The examples for GPUs and phones: their jobs read what is there, and the ARM table says what a report says."""

import json
import subprocess
import sys
from pathlib import Path

import yaml

from quantfleet.jobfile.document import read, read_text
from quantfleet_domain.hardware.offers import ENGINES

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_fastdeploy_table_asks_for_the_columns_of_the_field_and_names_no_engine(tmp_path: Path) -> None:
    for name in ("digits", "detection"):
        subprocess.run([sys.executable, EXAMPLES / name / "prepare.py", tmp_path / name / "data"], check=True)
        for path in (EXAMPLES / name).iterdir():
            if path.name != "data":
                (tmp_path / name / path.name).symlink_to(path)
    job = tmp_path / "fastdeploy-table" / "job.yaml"
    job.parent.mkdir()
    job.write_text((EXAMPLES / "fastdeploy-table" / "job.yaml").read_text())
    document = read(job)
    assert [model.name for model in document.models] == ["digits", "pages"]
    (target,) = document.models[0].targets
    assert target.engines == ()
    assert target.precisions == ("fp32", "fp16", "int8", "int8+fp16", "int8+fp16+pinned")


def test_the_arm_job_reads_what_its_script_writes(tmp_path: Path) -> None:
    example = EXAMPLES / "arm-paddle-lite"
    subprocess.run([sys.executable, example / "prepare.py", tmp_path / "data"], check=True)
    document = read_text((example / "job.yaml").read_text(), "job.yaml", tmp_path)
    for model in document.models:
        assert [path.suffix for path in model.files.files] == [".pdmodel", ".pdiparams"]
        (target,) = model.targets
        assert (target.pool, target.threads) == ("phone", (1, 2, 4))
        assert {ENGINES[engine].kind for engine in target.engines} == {"arm"}
    assert (document.benchmark.warmup, document.benchmark.repeat) == (10, 100)


def test_the_arm_table_has_the_published_form_and_leaves_out_what_was_not_measured(tmp_path: Path) -> None:
    def result(engine: str, precision: str, threads: int, mean: float) -> dict[str, object]:
        key = {"model": "mobilenet_v1", "engine": engine, "precision": precision, "threads": threads}
        return {**key, "latency_ms": {"mean": mean}}

    report = {
        "models": [{"name": "mobilenet_v1"}],
        "fleet": [{"hardware": {"model_name": "SM8150"}}],
        "results": [result("paddle-lite", "fp32", 1, 29.5), result("paddle-lite", "int8", 4, 3.98)],
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    command = [sys.executable, EXAMPLES / "arm-paddle-lite" / "table.py", tmp_path / "report.json"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert (
        lines[0]
        == "| SM8150 | armv7 1 [ms] | armv7 2 [ms] | armv7 4 [ms] | armv8 1 [ms] | armv8 2 [ms] | armv8 4 [ms] |"
    )
    assert lines[2:4] == [
        "| mobilenet_v1_fp32 | — | — | — | 29.50 | — | — |",
        "| mobilenet_v1_int8 | — | — | — | — | — | 3.98 |",
    ]
    assert "| mobilenet_v2_int8 | 17.68 | 10.49 | 5.93 | 12.76 | 7.70 | 4.36 |" in lines


def test_every_job_is_yaml_with_a_comment_that_says_what_it_is() -> None:
    for name in ("fastdeploy-table", "arm-paddle-lite"):
        text = (EXAMPLES / name / "job.yaml").read_text()
        assert text.startswith("# ")
        assert yaml.safe_load(text)["name"] == name
