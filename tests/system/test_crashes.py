"""Laws L2 and L3: `kill -9` of any process at any moment, and the job ends with the same bytes, nothing twice."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.system.conftest import write_job
from tests.system.fleet import RunningFleet, quantfleet, until

TARGETS = "[{engines: [onnxruntime-cpu], precisions: [fp32, int8], threads: [1]}]"
BENCHMARK = "{modes: [runtime], warmup: 20, repeat: 2000}"


@pytest.fixture
def job(material: Path) -> Path:
    return write_job(material, "crash", shards=6, targets=TARGETS, benchmark=BENCHMARK)


@pytest.fixture(scope="module")
def undisturbed(fleet: RunningFleet, material: Path) -> str:
    """The scale table's SHA-256 of the same job when nothing is killed."""
    identifier = fleet.submit(write_job(material, "calm", shards=2))
    assert fleet.wait_ended(identifier) == "succeeded"
    digest: str = fleet.report(identifier)["calibration"]["scales_sha256"]
    return digest


@pytest.fixture(autouse=True)
def everyone_back(fleet: RunningFleet) -> Iterator[None]:
    """Start again whatever a test has killed."""
    yield
    if fleet.coordinator is None or fleet.coordinator.poll() is not None:
        fleet.start_coordinator()
    for name, cores in (("left", "0"), ("right", "1")):
        if name not in fleet.workers:
            fleet.start_worker(name, cores)
    fleet.wait_live("left", "right")


def assert_whole(fleet: RunningFleet, identifier: str, undisturbed: str) -> None:
    """The job ended well, with the same bytes; every sample and every task counted once."""
    assert fleet.wait_ended(identifier) == "succeeded"
    report = fleet.report(identifier)
    assert report["calibration"]["scales_sha256"] == undisturbed
    assert report["calibration"]["samples"] == 42
    assert report["calibration"]["shards"] == 6
    cells = Counter((row["engine"], row["precision"], row["mode"], row["threads"]) for row in report["results"])
    assert cells == {("onnxruntime-cpu", p, "runtime", 1): 1 for p in ("fp32", "int8")}
    assert all(row["latency_ms"]["runs"] == 2000 for row in report["results"])
    assert report["absent"] == []


def leased_to(fleet: RunningFleet, identifier: str, kind: str) -> str | None:
    """The node that holds a task of this kind now."""
    tasks = fleet.tasks(identifier, kind, "leased")
    return tasks[0]["node"] if tasks else None


@pytest.mark.parametrize("kind", ["calibrate", "benchmark"])
def test_a_killed_worker_costs_nothing(fleet: RunningFleet, job: Path, undisturbed: str, kind: str) -> None:
    identifier = fleet.submit(job)
    node = until(lambda: leased_to(fleet, identifier, kind), f"a {kind} task is leased")
    fleet.kill(node)
    assert_whole(fleet, identifier, undisturbed)


@pytest.mark.parametrize("kind", ["calibrate", "benchmark"])
def test_a_killed_coordinator_costs_nothing(fleet: RunningFleet, job: Path, undisturbed: str, kind: str) -> None:
    identifier = fleet.submit(job)
    until(lambda: leased_to(fleet, identifier, kind), f"a {kind} task is leased")
    fleet.kill("coordinator")
    fleet.start_coordinator()
    assert_whole(fleet, identifier, undisturbed)


def test_everything_killed_at_once_costs_nothing(fleet: RunningFleet, job: Path, undisturbed: str) -> None:
    identifier = fleet.submit(job)
    until(lambda: leased_to(fleet, identifier, "calibrate"), "a calibrate task is leased")
    for name in ("left", "right", "coordinator"):
        fleet.kill(name)
    fleet.start_coordinator()
    for name, cores in (("left", "0"), ("right", "1")):
        fleet.start_worker(name, cores)
    assert_whole(fleet, identifier, undisturbed)


def test_a_worker_out_of_reach_kills_its_task_when_the_lease_has_run_out(fleet: RunningFleet, material: Path) -> None:
    long = write_job(material, "long", shards=6, targets=TARGETS, benchmark="{modes: [runtime], repeat: 200000}")
    identifier = fleet.submit(long)
    node = until(lambda: leased_to(fleet, identifier, "benchmark"), "a benchmark task is leased")
    worker = psutil.Process(fleet.workers[node].pid)
    running = until(lambda: engine_processes(worker), "its engine process runs")
    fleet.kill("coordinator")
    until(lambda: not any(process.is_running() for process in running), "the engine process is killed")
    assert worker.is_running()
    fleet.start_coordinator()
    quantfleet("job", "cancel", identifier, *fleet.admin)
    assert fleet.wait_ended(identifier) == "cancelled"


def engine_processes(worker: psutil.Process) -> list[psutil.Process]:
    """The child processes in which a worker's engines run."""
    found = []
    for process in worker.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "quantfleet_worker.execution.child" in process.cmdline():
                found.append(process)
    return found
