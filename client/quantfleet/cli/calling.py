"""One call of the coordinator from a command: credentials found, event loop run, channel closed."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from quantfleet.cli.options import credentials_directory
from quantfleet.client import Client

T = TypeVar("T")


def call(credentials: Path | None, use: Callable[[Client], Awaitable[T]]) -> T:
    """What `use` returns, given a client with these credentials or the default ones. Raises QuantfleetError."""
    directory = credentials_directory(credentials)

    async def run() -> T:
        async with Client.open(directory) as client:
            return await use(client)

    return asyncio.run(run())
