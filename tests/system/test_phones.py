"""A phone on a node of a fleet, from its file to the report: over the real adb client, to a device that this host takes
the place of. The conversions are recorded ones, and the tool is `lite_tool`."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.system.conftest import write_job
from tests.system.fleet import RunningFleet, quantfleet, until
from tests.worker.phones.adb_client import adb_client
from tests.worker.phones.android import SOC, android
from tests.worker.phones.interpreters import converting
from tests.worker.phones.lite_host import BYTES, CHOOSE
from tests.worker.phones.lite_models import DATA, FLOAT, INT8, SIDE, X86, saved, small_network
from tests.worker.phones.lite_tool import tool

from quantfleet_worker.phones.testing import AdbDevice, AdbServer

BAD_INPUT = 2
# The coordinator with little rest between attempts: a phone may be away for two minutes before its figures are absent.
RESTLESS = """
from quantfleet.cli.main import main
from quantfleet_coordinator.jobs import dispatcher
dispatcher.LONGEST_REST_S = 0.5
raise SystemExit(main())
"""
REPEAT, ROUNDS, SAMPLES = 20, 5, 8
BENCHMARK = f"{{modes: [runtime], warmup: 2, repeat: {REPEAT}}}"
# While the file `hold` exists, rounds of the tool do not end; the first of them makes `held`.
HOLDING = """
hold, held = {hold!r}, {held!r}
if repeats == {repeat} and os.path.exists(hold):
    open(held, "w").close()
    while os.path.exists(hold):
        time.sleep(0.02)
"""


@dataclass
class Bench:
    """A phone `pixel`, the file that lists it and another that is not connected, and a model with samples."""

    folder: Path
    server: AdbServer
    device: AdbDevice

    @property
    def phones(self) -> Path:
        return self.folder / "phones.yaml"

    def prepare(self) -> None:
        first = HOLDING.format(hold=str(self.folder / "hold"), held=str(self.folder / "held"), repeat=REPEAT)
        binary = tool(self.folder, "len(model) / 1000", first=first, init_ms=500)
        listed = {"pixel": self.device.address, "away": "127.0.0.1:1"}
        lines = [
            f"  - {{name: {name}, transport: adb, address: '{address}', benchmark_bin: {{armv8: {binary}}}}}\n"
            for name, address in listed.items()
        ]
        opt = converting(self.folder, CHOOSE)
        self.phones.write_text(f"phones:\n{''.join(lines)}opt: {{interpreter: {opt}}}\n")
        saved(small_network(), self.folder / "net")
        (self.folder / "samples").mkdir()
        random = np.random.default_rng(3)
        for index in range(SAMPLES):
            np.save(self.folder / f"samples/{index}.npy", random.standard_normal((3, SIDE, SIDE)).astype(np.float32))

    def job(self, name: str, targets: str, calibration: str = "") -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(
            f"apiVersion: quantfleet/v1\nkind: Job\nname: {name}\nmodel: {{path: net}}\n{calibration}"
            f"targets: {targets}\nbenchmark: {BENCHMARK}\n"
        )
        return path

    def hold(self) -> None:
        """Let the next round of the tool begin, and not end."""
        (self.folder / "hold").touch()

    def wait_held(self) -> None:
        until((self.folder / "held").exists, "a round on the phone has begun")

    def let_go(self) -> None:
        for name in ("hold", "held"):
            (self.folder / name).unlink(missing_ok=True)

    def come_back(self) -> None:
        """Be found at once: the server itself would look for the lost device again in a while."""
        self.device.come_back()
        subprocess.run(["adb", "disconnect", self.device.address], check=False, capture_output=True)
        self.server.connect(self.device.address)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    root = android(folder / "phone")
    with AdbServer(adb_client(), tmp_path_factory.mktemp("adb")) as server, AdbDevice(root) as device:
        server.connect(device.address)
        found = Bench(folder, server, device)
        found.prepare()
        yield found


@pytest.fixture(scope="module")
def fleet(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFleet]:
    """A coordinator and one worker, `desk`, on which the phones hang."""
    running = RunningFleet(tmp_path_factory.mktemp("fleet"), ("-c", RESTLESS))
    reaching = {name: bench.server.environment[name] for name in ("PATH", "ANDROID_ADB_SERVER_PORT")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in reaching.items():
            patch.setenv(name, value)
        try:
            running.start_coordinator()
            running.enrol("desk")
            running.start_worker("desk", "0,1", "--phones", str(bench.phones))
            running.wait_live("desk")
            yield running
        finally:
            running.stop()


@pytest.fixture(autouse=True)
def nothing_held(bench: Bench) -> Iterator[None]:
    yield
    bench.let_go()


def on_phone(fleet: RunningFleet, job: str) -> dict[str, Any]:
    """The measurement of a job that is the phone's."""
    tasks: list[dict[str, Any]] = fleet.status(job)["tasks"]
    (task,) = (found for found in tasks if found["kind"] == "benchmark" and "paddle-lite" in found["task_id"])
    return task


def test_a_phone_is_a_device_of_its_node_and_one_that_is_not_connected_is_left_out(fleet: RunningFleet) -> None:
    (node,) = fleet.nodes()
    processor, phone = node["devices"]
    assert (processor["device"], phone["device"], phone["kind"]) == ("cpu:0", "arm:pixel", "arm")
    assert phone["phone"]["soc"] == SOC
    assert phone["measurement_domain"] != processor["measurement_domain"]
    available = {engine["name"]: engine["available"] for engine in phone["engines"]}
    assert available == {"paddle-lite": True, "paddle-lite-armv7": False}
    assert "phone away is left out" in fleet.log("desk")


def test_a_phone_is_measured_by_itself_while_its_node_goes_on(
    fleet: RunningFleet, bench: Bench, material: Path
) -> None:
    quantfleet("pool", "put", "snapdragons", f"transport == adb and soc contains {SOC[:4]}", *fleet.admin)
    bench.hold()
    calibration = "calibration: {data: {path: samples}, calibrator: absmax, bias_correction: false}\n"
    targets = "[{pool: snapdragons, engines: [paddle-lite], precisions: [fp32, int8], threads: [1, 2]}]"
    job = fleet.submit(bench.job("phone", targets, calibration))
    bench.wait_held()
    beside = write_job(
        material, "beside", shards=2, benchmark=BENCHMARK, targets="[{engines: [onnxruntime-cpu], precisions: [fp32]}]"
    )
    assert fleet.wait_ended(fleet.submit(beside)) == "succeeded"
    assert (on_phone(fleet, job)["state"], on_phone(fleet, job)["device"]) == ("leased", "arm:pixel")
    bench.let_go()
    assert fleet.wait_ended(job) == "succeeded"

    report = fleet.report(job)
    assert report["absent"] == []
    assert {(row["precision"], row["threads"]) for row in report["results"]} == {
        (precision, threads) for precision in ("fp32", "int8") for threads in (1, 2)
    }
    for row in report["results"]:
        size = BYTES[FLOAT if row["precision"] == "fp32" else INT8]
        latency, settings = row["latency_ms"], row["settings_in_effect"]
        assert (row["node"], row["device"], row["engine_version"]) == ("desk", "arm:pixel", "v2.13-rc")
        assert latency["mean"] == pytest.approx(size / 1000, abs=1e-3)
        assert latency["runs"] == ROUNDS * REPEAT
        assert [latency.get(name) for name in ("median", "p90", "p95", "p99", "cov")] == [None] * 5
        assert (settings["transport"], settings["threads"], settings["opt"]) == ("adb", str(row["threads"]), "v2.13-rc")
        assert settings["power_mode"] == "high"
        assert settings["cores"]
    int8 = [row for row in report["results"] if row["precision"] == "int8"]
    assert {(row["int8_nodes"], row["quantizable_nodes"]) for row in int8} == {(2, 3)}
    assert all(row["speedup"]["value"] == pytest.approx(BYTES[FLOAT] / BYTES[INT8], rel=1e-3) for row in int8)
    (phone,) = [device for device in report["fleet"] if device["device"] == "arm:pixel"]
    assert phone["hardware"]["model_name"] == SOC


def test_a_phone_that_comes_back_is_measured_by_another_attempt(fleet: RunningFleet, bench: Bench) -> None:
    bench.hold()
    job = fleet.submit(bench.job("unplugged", "[{pool: phone, engines: [paddle-lite], precisions: [fp32]}]"))
    bench.wait_held()
    bench.device.vanish()
    bench.let_go()
    bench.come_back()
    assert fleet.wait_ended(job) == "succeeded"
    assert [(row["precision"], row["device"]) for row in fleet.report(job)["results"]] == [("fp32", "arm:pixel")]
    failed = json.loads(quantfleet("job", "logs", job, "--json", *fleet.admin).stdout)
    assert {attempt["failure"]["code"] for attempt in failed} == {"phone-lost"}
    assert "in the middle of a command" in failed[0]["failure"]["what"]
    assert on_phone(fleet, job)["epoch"] == len(failed) + 1


def test_a_phone_that_stays_away_costs_its_own_figures_alone(fleet: RunningFleet, bench: Bench) -> None:
    bench.hold()
    targets = "[{engines: [paddle-lite, onnxruntime-cpu], precisions: [fp32]}]"
    job = fleet.submit(bench.job("away", targets))
    bench.wait_held()
    bench.device.vanish()
    bench.let_go()
    try:
        assert fleet.wait_ended(job) == "partial"
    finally:
        bench.come_back()
    report = fleet.report(job)
    assert [(row["engine"], row["device"]) for row in report["results"]] == [("onnxruntime-cpu", "cpu:0")]
    (gap,) = report["absent"]
    assert (gap["engine"], gap["precision"], gap["applicable"]) == ("paddle-lite", "fp32", True)
    assert bench.device.address in gap["reason"]


def test_a_mistake_in_the_phones_file_is_told_with_its_place_and_nothing_is_started(
    fleet: RunningFleet, bench: Bench, tmp_path: Path
) -> None:
    spoilt = tmp_path / "phones.yaml"
    spoilt.write_text(bench.phones.read_text().replace("address:", "adress:", 1))
    place = spoilt.read_text().splitlines()[1].index("adress") + 1
    started = quantfleet(
        "worker", "run", "--state", str(fleet.directory / "desk"), "--phones", str(spoilt), check=False
    )
    assert started.returncode == BAD_INPUT
    assert f"{spoilt}:2:{place}: phones[0] has no key 'adress'" in started.stderr
    assert "did you mean 'address'?" in started.stderr
    assert not {"Traceback", "registered"} & set(started.stderr.split())
    assert [node["state"] for node in fleet.nodes()] == ["live"]


def test_a_converted_model_for_another_target_is_refused_at_its_place(fleet: RunningFleet, bench: Bench) -> None:
    (bench.folder / "net.nb").write_bytes((DATA / X86).read_bytes())
    job = bench.job("converted", "[{pool: phone, engines: [paddle-lite]}]")
    job.write_text(job.read_text().replace("path: net", "path: net.nb"))
    refused = quantfleet("job", "submit", str(job), *fleet.admin, check=False)
    assert refused.returncode == BAD_INPUT
    column = job.read_text().splitlines()[3].index("net.nb") + 1
    assert f"{job}:4:{column}: {bench.folder}/net.nb is made for x86, and this device is arm" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_form_of_another_engine_is_refused_at_its_place(fleet: RunningFleet, bench: Bench) -> None:
    job = bench.job("form", "[{engines: [onnxruntime-cpu], form: cache}]")
    refused = quantfleet("job", "submit", str(job), *fleet.admin, check=False)
    assert refused.returncode == BAD_INPUT
    column = job.read_text().splitlines()[4].index("cache") + 1
    assert f"{job}:5:{column}: there is no form 'cache'" in refused.stderr


def test_an_interpreter_that_is_not_there_is_what_its_engine_lacks() -> None:
    named = "--interpreter", "paddle-cpu=/nowhere/python"
    (device,) = json.loads(quantfleet("worker", "probe", "--json", *named).stdout)
    engines = {engine["name"]: engine for engine in device["engines"]}
    assert not engines["paddle-cpu"]["available"]
    assert "/nowhere/python cannot be started: No such file" in engines["paddle-cpu"]["missing"]
    assert engines["onnxruntime-cpu"]["available"]
