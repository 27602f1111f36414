from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.worker.phones.interpreters import interpreter
from tests.worker.phones.lite_host import BYTES, Host, model_files, work_of
from tests.worker.phones.lite_models import FLOAT
from tests.worker.phones.lite_tool import tool

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.phones import watching
from quantfleet_worker.phones.testing import AdbDevice, AdbServer
from quantfleet_worker.phones.transports.adb import AdbTransport
from quantfleet_worker.tasks.phone_benchmarking import benchmark_on_phone
from quantfleet_worker.tasks.phoning import on_phone


@pytest.fixture
def device(adb_server: AdbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdbDevice]:
    monkeypatch.setattr(watching, "SETTLING_S", 0.4)
    for name, value in adb_server.environment.items():
        monkeypatch.setenv(name, value)
    with AdbDevice(tmp_path / "android") as device:
        adb_server.connect(device.address)
        yield device


def test_a_phone_is_measured_over_the_real_adb_client(device: AdbDevice, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    host = Host(tmp_path / "host")
    result = host.benchmark(
        work_of(host, model_files(tmp_path / "model")), host.phone(transport=AdbTransport(device.address))
    )
    fp32, int8 = result.rows
    assert fp32.latency.mean == pytest.approx(BYTES[FLOAT] / 1000, abs=1e-3)
    assert int8.speedup is not None
    settings = {setting.name: setting.value for setting in int8.settings}
    assert (settings["transport"], settings["threads"]) == ("adb", "1")
    assert settings["cores"]


def test_a_phone_that_is_unplugged_between_rounds_is_lost(device: AdbDevice, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    host = Host(tmp_path / "host")

    def report(_: float, doing: str) -> None:
        if "round 2 of 5" in doing:
            device.vanish()

    work = work_of(host, model_files(tmp_path / "model"))
    phone = host.phone(transport=AdbTransport(device.address))
    with pytest.raises(QuantfleetError) as caught:
        benchmark_on_phone(work, host.workspace, host.here, report, phone)
    assert caught.value.code is ErrorCode.PHONE_LOST


def test_nothing_is_converted_for_a_phone_that_is_away(device: AdbDevice, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    host = Host(tmp_path / "host")
    noted = tmp_path / "converted"
    opt = interpreter(host.folder, f"open({str(noted)!r}, 'w')")
    phone = (
        f"{{name: pixel, transport: adb, address: '{device.address}', benchmark_bin: {{armv8: {tool(host.folder)}}}}}"
    )
    (host.folder / "phones.yaml").write_text(f"phones: [{phone}]\nopt: {{interpreter: {opt}}}\n")
    here = replace(host.here, device="arm:pixel", phones=str(host.folder / "phones.yaml"))
    work = work_of(host, model_files(tmp_path / "model"))
    device.vanish()
    with pytest.raises(QuantfleetError) as caught:
        on_phone(work, host.workspace, here, lambda *_: None)
    assert caught.value.code is ErrorCode.PHONE_LOST
    assert not noted.exists()
