import pytest
from tests.contract.store_contract import KINDS_IN_TEST, StoreContract

from quantfleet_coordinator.store.base import Store
from quantfleet_coordinator.store.memory import MemoryStore


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore(KINDS_IN_TEST)
