"""Frames over a pipe between a supervisor and its child process. Not a wire format: both ends are one version.

A frame is a 4-byte big-endian payload length, a 1-byte kind and the payload. A stream may end only between frames.
"""

import os
import struct
from dataclasses import dataclass
from enum import IntEnum

MAX_PAYLOAD_BYTES = 256 * 1024 * 1024
"""No frame is larger: a length beyond it means that something else was written into the pipe."""

_HEADER = struct.Struct(">IB")
_CHUNK_BYTES = 1 << 20


class Kind(IntEnum):
    """What a frame carries: the task's own bytes (REQUEST, RESULT), JSON (PROGRESS, ERROR, USAGE), UTF-8 text (LOG)."""

    REQUEST = 1
    PROGRESS = 2
    RESULT = 3
    ERROR = 4
    LOG = 5
    USAGE = 6


@dataclass(frozen=True)
class Frame:
    """One message on the pipe."""

    kind: Kind
    payload: bytes


class FrameError(Exception):
    """The stream is no sequence of frames: cut off, of an unknown kind, or of an impossible length."""


def encode(frame: Frame) -> bytes:
    """The bytes of a frame. Raises FrameError above `MAX_PAYLOAD_BYTES`."""
    if len(frame.payload) > MAX_PAYLOAD_BYTES:
        raise FrameError(f"a payload of {len(frame.payload)} bytes; at most {MAX_PAYLOAD_BYTES} fit into a frame")
    return _HEADER.pack(len(frame.payload), frame.kind) + frame.payload


class Decoder:
    """Turns the chunks of a stream into frames, wherever the chunks are cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def missing(self) -> int:
        """How many bytes the frame under way lacks, as far as is known yet; at least 1."""
        if len(self._buffer) < _HEADER.size:
            return _HEADER.size - len(self._buffer)
        return _HEADER.size + self._head()[0] - len(self._buffer)

    def feed(self, chunk: bytes) -> list[Frame]:
        """Take the next bytes and return the frames that they complete. Raises FrameError."""
        self._buffer += chunk
        frames: list[Frame] = []
        while len(self._buffer) >= _HEADER.size:
            length, kind = self._head()
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            frames.append(Frame(kind, bytes(self._buffer[_HEADER.size : end])))
            del self._buffer[:end]
        return frames

    def finish(self) -> None:
        """The stream has ended. Raises FrameError where that was inside a frame."""
        if self._buffer:
            raise FrameError(f"the stream ended inside a frame, after {len(self._buffer)} bytes of it")

    def _head(self) -> tuple[int, Kind]:
        length, kind = _HEADER.unpack_from(self._buffer)
        if length > MAX_PAYLOAD_BYTES:
            raise FrameError(f"a frame claims {length} bytes; at most {MAX_PAYLOAD_BYTES} are allowed")
        try:
            return length, Kind(kind)
        except ValueError as error:
            raise FrameError(f"no frame is of kind {kind}") from error


def send(fd: int, frame: Frame) -> None:
    """Write one frame to a blocking descriptor. Raises FrameError, and OSError where nobody reads any more."""
    remaining = memoryview(encode(frame))
    while remaining:
        remaining = remaining[os.write(fd, remaining) :]


def receive(fd: int) -> Frame | None:
    """Read one frame from a blocking descriptor, and not a byte beyond it; None at the end of the stream.

    Raises FrameError where the stream ends inside a frame.
    """
    decoder = Decoder()
    while chunk := os.read(fd, min(decoder.missing, _CHUNK_BYTES)):
        if frames := decoder.feed(chunk):
            return frames[0]
    decoder.finish()
    return None
