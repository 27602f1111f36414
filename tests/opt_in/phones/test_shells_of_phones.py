"""The shells of phones and boards in place of this host's: Android has mksh and toybox, small boards have BusyBox."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.adb_contract import AdbContract
from tests.worker.phones.adb_client import adb_client

from quantfleet_worker.phones.testing import AdbDevice, AdbServer


def program(name: str) -> Path:
    found = shutil.which(name, path="/bin:/usr/bin:/usr/local/bin")
    assert found, f"these tests need {name}: sudo apt install mksh toybox busybox"
    return Path(found)


@pytest.fixture(scope="module")
def adb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbServer]:
    with AdbServer(adb_client(), tmp_path_factory.mktemp("adb")) as server:
        yield server


class OtherShell(AdbContract):
    BOX: str
    """The program that has many names."""
    LISTS: tuple[str, ...]
    """What makes it list them."""
    SHELL: str

    @pytest.fixture
    def link(self, adb_server: AdbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdbDevice]:
        for name, value in adb_server.environment.items():
            monkeypatch.setenv(name, value)
        programs = tmp_path / "phone" / "system" / "bin"
        programs.mkdir(parents=True)
        box = program(self.BOX)
        names = subprocess.run([box, *self.LISTS], capture_output=True, text=True, check=True).stdout.split()
        for name in {*names} - {"sh"}:
            (programs / name).symlink_to(box)
        (programs / "sh").symlink_to(program(self.SHELL))
        with AdbDevice(tmp_path / "phone") as device:
            adb_server.connect(device.address)
            yield device


class TestAndroidsShell(OtherShell):
    BOX, LISTS, SHELL = "toybox", (), "mksh"


class TestBusyBox(OtherShell):
    BOX, LISTS, SHELL = "busybox", ("--list",), "busybox"
