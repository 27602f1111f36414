"""`worker probe` and `worker doctor` on this host, and mistakes in what an owner says of phones and interpreters."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.client.cli.conftest import Run
from tests.worker.phones.interpreters import converting

from quantfleet_worker.engines.registry import EngineListing, engines
from quantfleet_worker.probes import devices

TRIED = "onnxruntime-cpu"


@pytest.fixture
def one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry with one engine of the processor: trying them all is what tests/worker/doctor does."""

    def listed(isa: tuple[str, ...]) -> tuple[EngineListing, ...]:
        return tuple(listing for listing in engines(isa) if listing.kind != "cpu" or listing.name == TRIED)

    monkeypatch.setattr(devices, "engines", listed)


@pytest.fixture
def deaf(tmp_path: Path) -> Path:
    """A Python that says which engines it has, and then runs none."""
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\ncase "$*" in *elsewhere*) exec {sys.executable} "$@" ;; esac\necho no >&2\nexit 3\n')
    path.chmod(0o755)
    return path


@pytest.mark.usefixtures("one_engine")
def test_the_doctor_tells_the_facts_with_their_proofs_and_keeps_them(run: Run, tmp_path: Path) -> None:
    ran = run("worker", "doctor", "--state", tmp_path, "--json")
    assert ran.code == 0, ran.out + ran.err
    (device,) = ran.json
    (engine,) = device["engines"]
    assert (device["device"], engine["name"], engine["available"]) == ("cpu:0", TRIED, True)
    assert {proof["precision"]: proof["passed"] for proof in engine["proofs"]} == dict.fromkeys(
        engine["precisions"], True
    )
    assert all("of the reference's largest output" in proof["finding"] for proof in engine["proofs"])
    assert f"doctor: cpu:0: {TRIED} in int8" in ran.err.splitlines()
    (kept,) = json.loads((tmp_path / "doctor.json").read_text())
    assert (kept["engine"], kept["proofs"]) == (TRIED, engine["proofs"])


@pytest.mark.usefixtures("one_engine")
def test_an_engine_that_is_there_and_fails_is_told_by_the_doctors_exit_code(
    run: Run, tmp_path: Path, deaf: Path
) -> None:
    ran = run("worker", "doctor", "--state", tmp_path / "state", "--interpreter", f"{TRIED}={deaf}")
    assert ran.code == 1
    failing = {line.split(":")[0].strip() for line in ran.out.splitlines() if "FAILS" in line}
    assert failing >= {"fp32", "int8"}
    assert "works" not in ran.out
    assert "paddle-lite: no arm device is here" in ran.out


@pytest.mark.usefixtures("one_engine")
def test_an_engine_that_is_not_there_is_no_failure_of_the_doctor(run: Run, tmp_path: Path) -> None:
    ran = run("worker", "doctor", "--state", tmp_path, "--interpreter", f"{TRIED}=/nowhere/python")
    assert ran.code == 0
    assert f"{TRIED} is missing: /nowhere/python cannot be started" in ran.out
    assert json.loads((tmp_path / "doctor.json").read_text()) == []


@pytest.fixture
def phones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with one phone, which is this host: it calls itself aarch64, whatever it is."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in {"uname": "#!/bin/sh\necho aarch64\n", "benchmark_bin": ""}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    path = tmp_path / "phones.yaml"
    path.write_text(
        f"phones:\n  - {{name: here, transport: local, directory: {tmp_path}/there, "
        f"benchmark_bin: {{armv8: programs/benchmark_bin}}}}\nopt: {{interpreter: {converting(tmp_path, repr('x'))}}}\n"
    )
    return path


@pytest.mark.usefixtures("one_engine")
def test_a_probe_shows_the_phones_of_the_host(run: Run, phones: Path) -> None:
    processor, phone = run("worker", "probe", "--phones", phones, "--json").json
    assert (processor["device"], phone["device"], phone["kind"]) == ("cpu:0", "arm:here", "arm")
    assert phone["phone"]["abis"] == ["arm64-v8a"]
    assert {engine["name"]: engine["version"] for engine in phone["engines"]} == {
        "paddle-lite": "v2.13-rc",
        "paddle-lite-armv7": "",
    }
    lines = run("worker", "probe", "--phones", phones).out.splitlines()
    assert any(line.startswith("  paddle-lite: v2.13-rc (fp32") for line in lines)
    assert any(line.startswith("  paddle-lite-armv7: the phone runs no armeabi-v7a programs") for line in lines)


Spoil = Callable[[Path], tuple[list[str], str]]


def missing(path: Path) -> tuple[list[str], str]:
    path.unlink()
    return ["--phones", str(path)], f"the phones file {path} cannot be read: No such file"


def unknown_key(path: Path) -> tuple[list[str], str]:
    path.write_text(path.read_text().replace("directory:", "directry:"))
    return ["--phones", str(path)], f"{path}:2:36: phones[0] has no key 'directry'"


def unknown_engine(path: Path) -> tuple[list[str], str]:
    return ["--interpreter", "paddle-tensort=/opt/python"], "did you mean paddle-tensorrt?"


def no_python(path: Path) -> tuple[list[str], str]:
    return ["--interpreter", "paddle-tensorrt"], "write ENGINE=PYTHON"


@pytest.mark.parametrize("spoil", [missing, unknown_key, unknown_engine, no_python])
@pytest.mark.parametrize("command", [["run"], ["worker", "probe"], ["worker", "doctor"], ["benchmark"]], ids=" ".join)
def test_a_mistake_in_what_an_owner_says_is_told_before_any_work(
    run: Run, phones: Path, tiny_job: Path, tmp_path: Path, command: list[str], spoil: Spoil
) -> None:
    words = {"run": [tiny_job], "benchmark": [tiny_job.with_name("tiny.onnx")]}.get(command[0], [])
    options, said = spoil(phones)
    ran = run(*command, *words, *options)
    assert ran.code == 2, ran.err
    assert said in ran.err
    assert "starting a coordinator" not in ran.err
    assert "Traceback" not in ran.err
