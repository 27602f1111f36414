"""A broadcast: whoever waits is woken when something has changed. Not a queue; the waiter looks again by itself."""

import asyncio


class Changes:
    """Wakes every waiter at once. Used on one event loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Something has changed."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, timeout_s: float) -> bool:
        """Wait for the next change; False when `timeout_s` seconds went by without one."""
        event = self._event
        try:
            async with asyncio.timeout(max(timeout_s, 0)):
                await event.wait()
        except TimeoutError:
            return False
        return True
