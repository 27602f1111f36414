"""What the device does in a stream: runs commands, and takes and gives files, in a directory of this host.

AOSP packages/modules/adb: shell_protocol.h (packets of one byte id, four bytes length, data), SYNC.TXT (requests of
four letters and a little-endian length), daemon/shell_service.cpp (SIGHUP to the shell when its stream ends early).
"""

import asyncio
import contextlib
import os
import re
import signal
import stat
import struct
from pathlib import Path

from quantfleet_worker.phones.testing.adb_messages import Stream

_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)
_PACKET = struct.Struct("<BI")
_REQUEST = struct.Struct("<4sI")
_CHUNK = 64 * 1024  # the most that a DATA of the sync protocol holds


class Services:
    """The services over `root`, which holds the phone's tree: `data/local/tmp`, `proc`, `system/bin`, … as needed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def shell(self, stream: Stream, command: str) -> None:
        """Run `command` in this host's shell, its paths below those of `root`, and tell how it ended."""
        process = await asyncio.create_subprocess_exec(
            "sh",
            "-c",
            self._mapped(command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PATH": f"{self._root}/system/bin:{os.environ['PATH']}"},
        )
        assert process.stdin
        assert process.stdout
        assert process.stderr
        feeding = asyncio.create_task(self._feed(stream, process))
        await asyncio.gather(_drain(process.stdout, stream, _STDOUT), _drain(process.stderr, stream, _STDERR))
        code = await process.wait()
        # A shell's own end by a signal is told as a shell tells it of its children.
        await stream.write(_PACKET.pack(_EXIT, 1) + bytes([code if code >= 0 else 128 - code]))
        feeding.cancel()
        process.stdin.close()

    async def _feed(self, stream: Stream, process: asyncio.subprocess.Process) -> None:
        assert process.stdin
        try:
            while True:
                kind, length = _PACKET.unpack(await stream.read(_PACKET.size))
                data = await stream.read(length)
                if kind == _CLOSE_STDIN:
                    process.stdin.close()
                elif kind == _STDIN:
                    process.stdin.write(data)
        except asyncio.IncompleteReadError:
            process.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGHUP)

    async def sync(self, stream: Stream) -> None:
        """Take and give files until told to quit."""
        while True:
            name, length = _REQUEST.unpack(await stream.read(_REQUEST.size))
            text = (await stream.read(length)).decode()
            match name:
                case b"STAT":
                    await stream.write(b"STAT" + struct.pack("<3I", *self._status(text)))
                case b"SEND":
                    path, _, mode = text.rpartition(",")
                    await self._take(stream, self._place(path), int(mode))
                case b"RECV":
                    await self._give(stream, self._place(text))
                case _:
                    return

    async def _take(self, stream: Stream, path: Path, mode: int) -> None:
        content = bytearray()
        while True:
            name, length = _REQUEST.unpack(await stream.read(_REQUEST.size))
            if name == b"DONE":
                break
            content += await stream.read(length)
        await _answer(stream, _kept(path, content, mode))

    async def _give(self, stream: Stream, path: Path) -> None:
        content = _content(path)
        if isinstance(content, str):
            await _answer(stream, content)
            return
        for start in range(0, len(content), _CHUNK):
            part = content[start : start + _CHUNK]
            await stream.write(_REQUEST.pack(b"DATA", len(part)) + part)
        await stream.write(_REQUEST.pack(b"DONE", 0))

    def _status(self, path: str) -> tuple[int, int, int]:
        try:
            found = self._place(path).lstat()
        except OSError:
            return 0, 0, 0
        return found.st_mode, found.st_size if stat.S_ISREG(found.st_mode) else 0, int(found.st_mtime)

    def _place(self, path: str) -> Path:
        return self._root / path.lstrip("/")

    def _mapped(self, command: str) -> str:
        """The command with the root, and every absolute path that `root` has a tree for, put below `root`."""
        trees = "|".join(re.escape(tree.name) for tree in self._root.iterdir())
        return re.sub(rf"(?<![\w./-])/(?=(?:{trees})\b|[\s;]|$)", f"{self._root}/", command)


def _kept(path: Path, content: bytearray, mode: int) -> str:
    """Write the file; what went wrong, or nothing."""
    try:
        path.write_bytes(content)
        path.chmod(mode & 0o777)
    except OSError as error:
        return f"couldn't create file: {error.strerror}"
    return ""


def _content(path: Path) -> bytes | str:
    """The file's bytes, or what went wrong."""
    try:
        return path.read_bytes()
    except OSError as error:
        return f"open failed: {error.strerror}"


async def _drain(source: asyncio.StreamReader, stream: Stream, kind: int) -> None:
    while data := await source.read(_CHUNK):
        await stream.write(_PACKET.pack(kind, len(data)) + data)


async def _answer(stream: Stream, problem: str) -> None:
    text = problem.encode()
    await stream.write(_REQUEST.pack(b"FAIL" if problem else b"OKAY", len(text)) + text)
