"""A fleet set up and used by commands alone: a coordinator, a worker that joins and runs, a job that goes through."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.cli.conftest import Run

LIVE_WITHIN_S = 60.0


@pytest.fixture
def worker(admin: dict[str, str], run: Run, tmp_path: Path) -> "Iterator[subprocess.Popen[bytes]]":
    token = run("token", "create", "--node", "one", "--json").json["token"]
    state = tmp_path / "worker"
    assert run("worker", "join", token, "--state", state, "--json").json["node"] == "one"
    words = ["worker", "run", "--state", str(state), "--die-with-parent", str(os.getpid())]
    process = subprocess.Popen([sys.executable, "-m", "quantfleet", *words])
    yield process
    process.kill()
    process.wait()


def until_live(run: Run) -> None:
    end = time.monotonic() + LIVE_WITHIN_S
    while time.monotonic() < end:
        if any(node["name"] == "one" and node["state"] == "live" for node in run("node", "list", "--json").json):
            return
        time.sleep(0.2)
    pytest.fail("the worker is not live")


def test_a_job_goes_through_a_fleet_and_its_report_can_be_fetched_again(
    worker: "subprocess.Popen[bytes]", run: Run, tiny_job: Path, tmp_path: Path
) -> None:
    until_live(run)
    ran = run("job", "submit", tiny_job, "--out", tmp_path / "first")
    assert ran.code == 0, ran.err
    assert "tiny/benchmark/0/onnxruntime-cpu done on one/cpu:0" in ran.err
    job = run("job", "list", "--json").json[0]
    assert (job["state"], job["user"]) == ("succeeded", "admin")
    assert run("job", "report", job["job_id"], "--out", tmp_path / "second").code == 0
    for name in ("report.json", "tiny/scales.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert run("job", "retry", job["job_id"]).code == 5

    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0


def test_a_revoked_worker_ends_with_the_exit_code_that_keeps_it_ended(
    worker: "subprocess.Popen[bytes]", run: Run
) -> None:
    until_live(run)
    assert run("node", "revoke", "one").code == 0
    assert worker.wait(60) == 5
