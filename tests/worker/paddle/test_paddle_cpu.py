"""The engine `paddle-cpu` keeps the contract of engines."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract.engine_contract import EngineContract

from quantfleet_worker.engines.base import Engine
from quantfleet_worker.engines.paddle_cpu import ENGINE
from quantfleet_worker.quantizers.paddle_onednn import quantize

from .conftest import Calibrated, pictures


class TestPaddleCpu(EngineContract):
    @pytest.fixture
    def engine(self) -> Engine:
        return ENGINE

    @pytest.fixture
    def fp32_model(self, old_model: Path) -> Path:
        return old_model

    @pytest.fixture
    def int8_model(self, old_model: Path, calibrated: Calibrated, tmp_path: Path) -> Path:
        return quantize(old_model, calibrated.table, ENGINE.preferred_form(("avx2",), "int8"), tmp_path / "int8").path

    @pytest.fixture
    def unreadable_model(self, tmp_path: Path) -> Path:
        directory = tmp_path / "unreadable"
        directory.mkdir()
        (directory / "inference.pdmodel").write_bytes(b"no model")
        (directory / "inference.pdiparams").write_bytes(b"no parameters")
        return directory

    @pytest.fixture
    def sample(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        return pictures(1, seed=9)
