"""A device that speaks the real ADB protocol over TCP, for the real client. Not a phone: commands run on this host.

It has no Android behind it. Its files are in a directory that the caller fills, its commands are this host's, and a
time taken from it is this host's time.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from quantfleet_worker.phones.testing.adb_messages import (
    AUTH,
    CONNECT,
    MOST_DATA,
    VERSION,
    Connection,
    Message,
    Service,
    read_message,
)
from quantfleet_worker.phones.testing.adb_services import Services

_BANNER = b"device::ro.product.name=quantfleet;ro.product.model=test;ro.product.device=test;features=shell_v2"
_TOKEN = 1
_TOKEN_BYTES = 20
_LAST_S = 5


class AdbDevice:
    """The device, in a thread of its own from `with` to its end; `adb connect ADDRESS` finds it.

    `root` holds its tree and is made with `data/local/tmp`. Absolute paths in commands that begin with a folder of
    `root` mean that folder; programs in `root/system/bin` come first. `accepts` is whether the dialog that asks its
    owner to trust this host would be answered with yes.
    """

    def __init__(self, root: Path, *, accepts: bool = True) -> None:
        (root / "data/local/tmp").mkdir(parents=True, exist_ok=True)
        self._services = Services(root)
        self._accepts = accepts
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._port = 0
        self._bytes_left: int | None = None

    @property
    def address(self) -> str:
        """The serial number that adb gives it: 127.0.0.1 and its port."""
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.come_back()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.vanish()
        self._do(self._finish)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def vanish(self) -> None:
        """Break every connection and take no new one, as when the cable is pulled."""
        self._do(self._vanish)

    def vanish_after(self, count: int) -> None:
        """Vanish when so many more bytes have gone in or out."""
        self._bytes_left = count

    def come_back(self) -> None:
        """Take connections again, on the same port."""
        self._do(self._listen)

    def _do(self, what: Callable[[], Coroutine[None, None, None]]) -> None:
        asyncio.run_coroutine_threadsafe(what(), self._loop).result(timeout=2 * _LAST_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._greet, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _vanish(self) -> None:
        self._break()

    def _break(self) -> None:
        self._bytes_left = None
        if self._server:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def _passed(self, count: int) -> None:
        if self._bytes_left is not None:
            self._bytes_left -= count
            if self._bytes_left <= 0:
                self._break()

    async def _finish(self) -> None:
        running = asyncio.all_tasks() - {cast("asyncio.Task[None]", asyncio.current_task())}
        if running:
            _, stuck = await asyncio.wait(running, timeout=_LAST_S)
            for task in stuck:  # a command that did not end with its stream
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                message = await read_message(reader)
                if message.command == CONNECT and self._accepts:
                    writer.write(Message(CONNECT, VERSION, MOST_DATA, _BANNER).encode())
                    await Connection(reader, writer, self._service, self._passed).serve()
                    return
                # Whatever signature or key the server offers, nobody has accepted it.
                writer.write(Message(AUTH, _TOKEN, 0, bytes(_TOKEN_BYTES)).encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _service(self, name: str) -> Service | None:
        kind, _, rest = name.partition(":")
        if kind == "sync":
            return self._services.sync
        if kind.startswith("shell,v2"):
            return lambda stream: self._services.shell(stream, rest)
        return None
