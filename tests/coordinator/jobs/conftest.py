"""What the tests of a whole coordinator share: running one, and nodes beside it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from quantfleet_coordinator.testing import LocalFleet

Scenario = Callable[[LocalFleet], Awaitable[None]]
Play = Callable[..., None]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Run a scenario against a fresh coordinator; keyword arguments are those of `LocalFleet`."""

    def run(scenario: Scenario, **settings: Any) -> None:
        async def main() -> None:
            async with LocalFleet(tmp_path, **settings) as fleet:
                await scenario(fleet)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not [task for task in left if "quantfleet" in repr(task.get_coro())], left

        _run(main())

    return run


def _run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)
