import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.adb_contract import AdbContract

from quantfleet_worker.phones.testing import AdbServer


@pytest.fixture(scope="module")
def adb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbServer]:
    program = shutil.which("adb")
    assert program, "these tests need adb: sudo apt install adb"
    with AdbServer(Path(program), tmp_path_factory.mktemp("adb")) as server:
        yield server


class TestSystemAdb(AdbContract):
    pass
