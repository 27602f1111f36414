"""The messages of the ADB protocol between a server and a device, over TCP. Not for what services say in them.

AOSP packages/modules/adb, protocol.txt and adb.h: a header of six little-endian words (command, two arguments, length
and sum of the data, the command inverted), then the data. A stream is OPENed by the server, each WRTE is to be answered
by OKAY before the next, and CLSE from either side ends it.
"""

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

CONNECT, AUTH, OPEN, OKAY, WRITE, CLOSE = (
    int.from_bytes(name, "little") for name in (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"WRTE", b"CLSE")
)
VERSION = 0x01000001
"""From this version on nobody computes sums."""
MOST_DATA = 256 * 1024

_HEADER = struct.Struct("<6I")


@dataclass(frozen=True)
class Message:
    """One message."""

    command: int
    first: int
    second: int
    data: bytes = b""

    def encode(self) -> bytes:
        """Its bytes on the connection. The sum is there for servers that are older than `VERSION`."""
        header = (self.command, self.first, self.second, len(self.data), sum(self.data) & 0xFFFFFFFF)
        return _HEADER.pack(*header, self.command ^ 0xFFFFFFFF) + self.data


async def read_message(reader: asyncio.StreamReader) -> Message:
    """The next message. Raises asyncio.IncompleteReadError at the connection's end."""
    command, first, second, length, _, _ = _HEADER.unpack(await reader.readexactly(_HEADER.size))
    return Message(command, first, second, await reader.readexactly(length))


class Stream:
    """One open stream, as a service sees it: bytes in, bytes out, an end on either side."""

    def __init__(self, send: Callable[[Message], None], ours: int, theirs: int) -> None:
        self._send = send
        self._ours = ours
        self._theirs = theirs
        self._arrived = asyncio.StreamReader()
        self._taken = asyncio.Event()
        self._open = True

    async def read(self, count: int) -> bytes:
        """Exactly so many bytes. Raises asyncio.IncompleteReadError where the other side closed before."""
        return await self._arrived.readexactly(count)

    async def write(self, data: bytes) -> None:
        """Send, and wait until each message of it was taken. What is sent into a closed stream is lost."""
        for start in range(0, len(data), MOST_DATA):
            if not self._open:
                return
            self._taken.clear()
            self._send(Message(WRITE, self._ours, self._theirs, data[start : start + MOST_DATA]))
            await self._taken.wait()

    def close(self) -> None:
        """End it from this side."""
        if self._open:
            self._send(Message(CLOSE, self._ours, self._theirs))
        self.closed()

    def acknowledge(self) -> None:
        """Tell the other side that it may send on."""
        self._send(Message(OKAY, self._ours, self._theirs))

    def taken(self) -> None:
        """The other side took what was sent last."""
        self._taken.set()

    def arrived(self, data: bytes) -> None:
        """The other side sent this."""
        self._arrived.feed_data(data)
        self.acknowledge()

    def closed(self) -> None:
        """Nothing goes in or out any more."""
        self._open = False
        self._taken.set()
        self._arrived.feed_eof()


Service = Callable[[Stream], Awaitable[None]]


class Connection:
    """A server's connection after the greeting: opens the streams it asks for, until it ends.

    `passed` is told how many bytes went in or out.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        service: Callable[[str], Service | None],
        passed: Callable[[int], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._service = service
        self._passed = passed
        self._streams: dict[int, Stream] = {}

    async def serve(self) -> None:
        """Answer messages until the connection ends; services that run then see their streams close."""
        async with asyncio.TaskGroup() as running:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    self._answer(await read_message(self._reader), running)
            for stream in self._streams.values():
                stream.closed()

    def _answer(self, message: Message, running: asyncio.TaskGroup) -> None:
        self._passed(len(message.data))
        stream = self._streams.get(message.second)
        if message.command == OPEN:
            service = self._service(message.data.rstrip(b"\0").decode())
            if service is None:
                self._send(Message(CLOSE, 0, message.first))
                return
            ours = max(self._streams, default=0) + 1
            stream = self._streams[ours] = Stream(self._send, ours, message.first)
            stream.acknowledge()
            running.create_task(self._run(service, stream, ours))
        elif stream and message.command == WRITE:
            stream.arrived(message.data)
        elif stream and message.command == OKAY:
            stream.taken()
        elif stream and message.command == CLOSE:
            stream.closed()

    async def _run(self, service: Service, stream: Stream, ours: int) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await service(stream)
        stream.close()
        del self._streams[ours]

    def _send(self, message: Message) -> None:
        self._passed(len(message.data))
        if not self._writer.is_closing():
            self._writer.write(message.encode())
