"""`quantfleet run` as a user runs it: a real coordinator, TLS, Ray and workers that leave nothing but a report."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import psutil
import pytest

from quantfleet.jobfile.document import read_text
from quantfleet.jobfile.prepare import load_job
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.jobs.manifest import Manifest
from quantfleet_domain.reporting.report import Report
from quantfleet_domain.reporting.schema import report_schema

MARK = "QUANTFLEET_TEST_MARK"
GONE_WITHIN_S = 30.0


@dataclass(frozen=True)
class Running:
    """A command as a child; everything that it starts inherits the mark."""

    process: "subprocess.Popen[str]"
    mark: str
    temporary: Path

    def others(self) -> list[psutil.Process]:
        """What it started and is still there."""
        found = []
        for process in psutil.process_iter(["name"]):
            try:
                if process.pid != self.process.pid and process.environ().get(MARK) == self.mark:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    def kill(self, *command: str) -> None:
        """Kill -9 the one that runs this command. What is just ending shows no command line, and is passed over."""
        for process in self.others():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.cmdline()[3 : 3 + len(command)] == [*command]:
                    process.kill()
                    return
        pytest.fail(f"nothing runs {' '.join(command)!r}")

    def until(self, words: str) -> None:
        """Wait for a line of progress."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if words in line:
                return
        pytest.fail(f"it ended and never said {words!r}")

    def all_gone(self) -> bool:
        end = time.monotonic() + GONE_WITHIN_S
        while self.others() and time.monotonic() < end:
            time.sleep(0.1)
        return not self.others()


@contextmanager
def running(folder: Path, *words: object) -> Iterator[Running]:
    mark = secrets.token_hex(8)
    temporary = folder / "tmp"
    temporary.mkdir()
    # What a shell runs in the background ignores SIGINT, and so would what these tests start from there.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "quantfleet", *(str(word) for word in words), "--out", str(folder / "out")],
        env={**os.environ, MARK: mark, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    found = Running(process, mark, temporary)
    try:
        yield found
    finally:
        process.kill()
        process.communicate()
        for other in found.others():
            with contextlib.suppress(psutil.NoSuchProcess):
                other.kill()


@dataclass(frozen=True)
class Ended:
    """A run that has ended."""

    code: int
    out: str
    err: str
    folder: Path
    left: list[str]
    state: list[Path]

    @property
    def report(self) -> Report:
        return Report.from_json((self.folder / "report.json").read_bytes())


@pytest.fixture(scope="module")
def ended(tiny_job: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    folder = tmp_path_factory.mktemp("run")
    with running(folder, "run", tiny_job) as run:
        out, err = run.process.communicate()
        left = [process.info["name"] for process in run.others()]
        return Ended(run.process.returncode, out, err, folder / "out", left, list(run.temporary.iterdir()))


def test_a_run_ends_well_and_shows_its_tables_and_where_the_page_is(ended: Ended) -> None:
    assert ended.code == 0, ended.err
    assert "Runtime latency" in ended.out
    assert "int8.speedup >= 0.001" in ended.out
    assert f"report: {ended.folder / 'report.html'}" in ended.out


def test_the_report_is_valid_and_holds_every_figure_that_was_asked_for(ended: Ended) -> None:
    jsonschema.validate(json.loads((ended.folder / "report.json").read_text()), report_schema())
    report = ended.report
    assert report.job.state == "succeeded"
    assert {(r.precision, r.mode) for r in report.results} == {
        (precision, mode) for precision in ("fp32", "int8") for mode in ("runtime", "end2end")
    }
    assert all(r.latency_ms and r.repeat == 40 for r in report.results)
    assert {figure.samples for r in report.results for figure in r.accuracy} == {12}
    assert report.calibration["tiny"].samples == 12
    assert [gate.passed for gate in report.gates] == [True]
    assert not report.absent


def test_the_report_and_the_files_are_written_in_every_form_and_nothing_half_written_lies_about(ended: Ended) -> None:
    names = {path.relative_to(ended.folder).as_posix() for path in ended.folder.rglob("*") if path.is_file()}
    assert {"report.json", "report.md", "report.csv", "report.html", "tiny/scales.json"} <= names
    assert any(name.startswith("tiny/onnx-") and name.endswith(".onnx") for name in names)
    assert not [name for name in names if name.endswith(".partial") or "/." in name or name.startswith(".")]
    table = ScaleTable.from_json((ended.folder / "tiny" / "scales.json").read_bytes())
    assert table.sha256 == ended.report.calibration["tiny"].scales_sha256


def test_no_process_and_no_state_is_left(ended: Ended) -> None:
    assert ended.left == []
    assert ended.state == []


def test_ctrl_c_ends_everything_at_once_and_leaves_nothing(tiny_job: Path, tmp_path: Path) -> None:
    with running(tmp_path, "run", tiny_job) as run:
        run.until("tiny/inspect started")
        run.process.send_signal(signal.SIGINT)
        _, err = run.process.communicate()
        assert run.process.returncode == 130
        assert "Traceback" not in err
        assert run.others() == []
        assert list(run.temporary.iterdir()) == []
        assert not (tmp_path / "out").exists()


def test_children_die_with_a_run_that_is_killed(tiny_job: Path, tmp_path: Path) -> None:
    with running(tmp_path, "run", tiny_job) as run:
        run.until("tiny/inspect started")
        assert run.others()
        run.process.send_signal(signal.SIGKILL)
        assert run.all_gone()


def test_a_run_survives_its_coordinator_and_a_worker_and_makes_the_same_table(
    ended: Ended, tiny_job: Path, tmp_path: Path
) -> None:
    with running(tmp_path, "run", tiny_job) as run:
        run.until("tiny/inspect done")
        run.kill("coordinator", "serve")
        run.kill("worker", "run")
        _, err = run.process.communicate()
        assert run.process.returncode == 0, err
        assert run.all_gone()
    one, other = (folder / "tiny" / "scales.json" for folder in (ended.folder, tmp_path / "out"))
    assert one.read_bytes() == other.read_bytes()


def test_a_target_that_this_machine_cannot_serve_is_told_before_any_work(tiny_job: Path, tmp_path: Path) -> None:
    job = tiny_job.with_name("t4.yaml")
    job.write_text(tiny_job.read_text().replace("{engines:", "{pool: t4, engines:"))
    with running(tmp_path, "run", job, "--workers", 1) as run:
        _, err = run.process.communicate()
    assert run.process.returncode == 2
    assert "no device here can serve" in err
    assert "kind == cuda does not hold" in err


def test_a_manifest_names_what_was_sampled(ended: Ended, tiny_job: Path) -> None:
    header = json.loads((ended.folder / "tiny" / "scales.json").read_text())["header"]
    prepared = load_job(tiny_job)
    calibration = prepared.spec.models[0].calibration
    assert calibration is not None
    assert header["manifest"] == calibration.data.manifest.digest
    content = prepared.files[calibration.data.manifest.digest]
    assert isinstance(content, bytes)
    assert len(Manifest.from_json(content).samples) == 12


def test_calibrate_writes_the_same_table_from_other_shards_and_workers(
    ended: Ended, tiny_job: Path, tmp_path: Path
) -> None:
    words = ("calibrate", tiny_job.with_name("tiny.onnx"), tiny_job.with_name("data"), "--shards", 5, "--workers", 1)
    with running(tmp_path, *words) as run:
        out, err = run.process.communicate()
    assert run.process.returncode == 0, err
    assert (tmp_path / "out").read_bytes() == (ended.folder / "tiny" / "scales.json").read_bytes()
    assert "over 12 samples" in out


def test_benchmark_without_samples_measures_fp32_at_run_time_and_says_so_in_its_job(
    tiny_job: Path, tmp_path: Path
) -> None:
    model = tiny_job.with_name("tiny.onnx")
    words = ("benchmark", model, "--engine", "onnxruntime-cpu", "--repeat", 20, "--warmup", 2, "--workers", 1, "--json")
    with running(tmp_path, *words) as run:
        out, err = run.process.communicate()
    assert run.process.returncode == 0, err
    report = Report.from_json((tmp_path / "out" / "report.json").read_bytes())
    assert [(r.precision, r.mode, r.repeat) for r in report.results] == [("fp32", "runtime", 20)]
    assert read_text(report.job_file, "job.yaml", tmp_path).models[0].files.files == (model,)
    assert json.loads(out)["report"]["job"]["name"] == "tiny-benchmark"
