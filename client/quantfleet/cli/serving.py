"""What processes that stay have in common: logging, signals, their parent. Not for what they serve."""

import asyncio
import logging
import signal
from collections.abc import Coroutine
from typing import Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError

_LEVELS = ("debug", "info", "warning", "error")


def prepare(log_level: str, die_with_parent: int | None) -> None:
    """Log to standard error, and end with the parent where one is named. Raises QuantfleetError(USAGE)."""
    if log_level not in _LEVELS:
        raise QuantfleetError(
            ErrorCode.USAGE, f"there is no log level {log_level!r}", f"give one of {', '.join(_LEVELS)}"
        )
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if die_with_parent is not None:
        from quantfleet_worker.execution.child import die_with

        die_with(die_with_parent)


def until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end, or until SIGTERM or SIGINT cancels it; then it is given the time to end in order."""

    async def serve() -> None:
        task = asyncio.ensure_future(work)
        told = False

        def stop() -> None:
            nonlocal told
            told = True
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        try:
            await task
        except asyncio.CancelledError:
            if not told:
                raise

    asyncio.run(serve())
