"""What the tests of a whole coordinator share: running one, with nothing left behind."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.coordinator.jobs.fleet_play import Play, Scenario

from quantfleet_coordinator.testing import LocalFleet


@pytest.fixture
def play(tmp_path: Path) -> Play:
    def run(scenario: Scenario, **settings: Any) -> None:
        async def main() -> None:
            async with LocalFleet(tmp_path, **settings) as fleet:
                await scenario(fleet)

        asyncio.run(main())

    return run
