from pathlib import Path

import pytest
from tests.contract.transport_contract import TransportContract

from quantfleet_worker.phones.transports.base import Transport
from quantfleet_worker.phones.transports.local import LocalTransport


class TestLocal(TransportContract):
    @pytest.fixture
    def transport(self, tmp_path: Path) -> Transport:
        return LocalTransport(str(tmp_path / "phone" / "runs"))
