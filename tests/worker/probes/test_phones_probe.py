"""Phones as devices: this host in a phone's place, for whose word about its machine a program of the test stands."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.worker.phones.adb_client import adb_client
from tests.worker.phones.interpreters import converting
from tests.worker.phones.test_facts import CPUINFO, MEMINFO, PROPERTIES

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.facts import EngineFacts
from quantfleet_worker.phones.testing import AdbDevice, AdbServer
from quantfleet_worker.probes.boot import boot_id
from quantfleet_worker.probes.phones import phone_devices

HERE = "name: here, transport: local, directory: {folder}/there"


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a phones file. Whatever this host is, it calls its machine aarch64, whose programs are arm64-v8a alone."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "uname").write_text("#!/bin/sh\necho aarch64\n")
    (programs / "uname").chmod(0o755)
    (programs / "benchmark_bin").touch()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")

    def write(*phones: str, builds: tuple[str, ...] = ("armv8", "armv7"), opt: str = "") -> Path:
        tools = ", ".join(f"{build}: programs/benchmark_bin" for build in builds)
        lines = [f"  - {{{phone.format(folder=tmp_path)}, benchmark_bin: {{{tools}}}}}\n" for phone in phones]
        path = tmp_path / "phones.yaml"
        path.write_text(f"phones:\n{''.join(lines)}" + (f"opt: {{interpreter: {opt}}}\n" if opt else ""))
        return path

    return write


def engines(file: Path) -> dict[str, EngineFacts]:
    (device,) = phone_devices(file, 0)
    return {engine.name: engine for engine in device.engines}


def test_a_phone_is_a_device_with_its_own_processor_in_its_machines_domain(
    listed: Callable[..., Path], tmp_path: Path
) -> None:
    (device,) = phone_devices(listed(HERE, opt=converting(tmp_path, "''")), 3)
    assert (device.device, device.kind, device.verified, device.feeding) == ("arm:here", "arm", True, (3,))
    assert device.cores == tuple(range(device.hardware.logical_cores))
    assert device.slots == (0,)
    assert device.measurement_domain == boot_id()
    assert device.phone is not None
    assert (device.phone.transport, device.phone.abis) == ("local", ("arm64-v8a",))
    assert device.numerics_isa.startswith("aarch64/")


def test_an_engine_has_the_version_of_opt_where_the_phone_runs_its_programs(
    listed: Callable[..., Path], tmp_path: Path
) -> None:
    found = engines(listed(HERE, opt=converting(tmp_path, "''")))
    armv8, armv7 = found["paddle-lite"], found["paddle-lite-armv7"]
    assert (armv8.version, armv8.available, armv8.missing) == ("v2.13-rc", True, "")
    assert {"fp32", "int8"} <= set(armv8.precisions)
    assert (armv7.version, armv7.available) == ("", False)
    assert armv7.missing.startswith("the phone runs no armeabi-v7a programs")


def test_a_build_of_the_tool_that_is_not_named_is_what_its_engine_lacks(
    listed: Callable[..., Path], tmp_path: Path
) -> None:
    found = engines(listed(HERE, builds=("armv7",), opt=converting(tmp_path, "''")))
    assert not found["paddle-lite"].available
    assert found["paddle-lite"].missing.startswith("the phones file names no benchmark_bin for arm64-v8a")


def test_without_an_opt_no_engine_is_available_and_the_reason_says_which(listed: Callable[..., Path]) -> None:
    for opt, said in (("", "names no interpreter for opt"), (sys.executable, f"{sys.executable} has no paddlelite")):
        engine = engines(listed(HERE, opt=opt))["paddle-lite"]
        assert (engine.available, engine.version) == (False, "")
        assert said in engine.missing


def test_a_phone_that_does_not_answer_is_left_out_with_a_warning_and_one_of_no_boot_id_has_a_domain_of_its_own(
    listed: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "phone"
    for name, text in {"proc/cpuinfo": CPUINFO, "proc/meminfo": MEMINFO, "system/bin/getprop": ""}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "system/bin/getprop").write_text(f"#!/bin/sh\ncat <<'END'\n{PROPERTIES}END\n")
    (root / "system/bin/getprop").chmod(0o755)
    with AdbServer(adb_client(), tmp_path) as server, AdbDevice(root) as device:
        for name in ("PATH", "ANDROID_ADB_SERVER_PORT"):
            monkeypatch.setenv(name, server.environment[name])
        server.connect(device.address)
        file = listed(
            "name: gone, transport: adb, address: NOBODY",
            f"name: pixel, transport: adb, address: '{device.address}'",
        )
        with caplog.at_level(logging.WARNING):
            (found,) = phone_devices(file, 0)
    assert (found.device, found.model_name, found.measurement_domain) == ("arm:pixel", "msmnile", "phone/0A1B2C3D")
    (warning,) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert warning.startswith("phone gone is left out: phone NOBODY (adb) is lost")


def test_a_mistake_in_the_file_is_not_a_phone_that_does_not_answer(listed: Callable[..., Path]) -> None:
    with pytest.raises(QuantfleetError, match=r"phones\.yaml:2:5: this phone has no name") as caught:
        phone_devices(listed("transport: local, directory: {folder}/there"), 0)
    assert caught.value.code is ErrorCode.USAGE
