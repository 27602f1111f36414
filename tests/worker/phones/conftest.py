from collections.abc import Iterator

import pytest
from tests.worker.phones.adb_client import adb_client

from quantfleet_worker.phones.testing import AdbServer


@pytest.fixture(scope="package")
def adb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbServer]:
    with AdbServer(adb_client(), tmp_path_factory.mktemp("adb")) as server:
        yield server
