"""Artifacts between a disk and the coordinator: what is missing travels, and goes on where it was interrupted.

Not for where files come from, nor for a cache of them. Calls that the transport broke off, or that the coordinator
could not serve just now, are tried again; their error is raised after six attempts in a row that moved nothing.
"""

import asyncio
import hashlib
import io
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import grpc

from quantfleet_domain.errors import Category, ErrorCode, QuantfleetError
from quantfleet_protos.v1.artifacts_pb2 import DownloadRequest, StatRequest, UploadHeader, UploadRequest
from quantfleet_wire.content import CHUNK_BYTES, checked_digest, digest_bytes, digest_file, disk_error
from quantfleet_wire.errors import from_rpc_error

if TYPE_CHECKING:
    from quantfleet_protos.v1.artifacts_pb2_grpc import ArtifactsAsyncStub

__all__ = ["Progress", "digest_bytes", "digest_file", "download", "fetch_bytes", "upload", "upload_missing"]

Progress = Callable[[int, int], None]
"""Called on the event loop with the bytes that are stored or on their way, and the bytes that were missing in all."""

_STAT_BATCH: Final = 4096
_CONCURRENT: Final = 8
_ATTEMPTS: Final = 6
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0


async def upload(
    stub: "ArtifactsAsyncStub", source: bytes | Path, digest: str, sent: Callable[[int], None] | None = None
) -> None:
    """Store an artifact; what is stored already does not travel. `sent` hears the size of each piece handed over.

    Raises what the coordinator does (STORAGE_FULL, …), DIGEST_MISMATCH when the source has not this digest,
    DATA_NOT_FOUND when it cannot be read, COORDINATOR_UNREACHABLE.
    """
    with _opened(source) as file:
        size = file.seek(0, os.SEEK_END)
        attempts = _Attempts()
        while True:
            offset = 0
            try:
                (status,) = (await stub.Stat(StatRequest(digests=[digest]))).artifacts
                if status.present:
                    return
                # What is there may be of a source that has changed since; then it is longer, or fails the digest.
                offset = min(status.size, size) if not attempts.restarted else 0
                await _send(stub, file, UploadHeader(digest=digest, size=size, offset=offset), sent)
                return
            except (grpc.RpcError, QuantfleetError) as error:
                await attempts.again(error, offset)


async def upload_missing(
    stub: "ArtifactsAsyncStub", files: Mapping[str, Path], progress: Progress | None = None
) -> None:
    """Store every file, by digest, that is not stored yet; up to eight travel at a time.

    Raises as `upload` does, at the first that fails; those that arrived until then stay.
    """
    missing: list[str] = []
    digests = list(files)
    for start in range(0, len(digests), _STAT_BATCH):
        missing += await _missing(stub, digests[start : start + _STAT_BATCH])
    try:
        total = sum(files[digest].stat().st_size for digest in missing)
    except OSError as error:
        raise _unreadable(error) from error
    done = 0

    def sent(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(min(done, total), total)

    queue = iter(missing)

    async def upload_next() -> None:
        for digest in queue:
            await upload(stub, files[digest], digest, sent)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_CONCURRENT, len(missing))):
                group.create_task(upload_next())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def download(stub: "ArtifactsAsyncStub", digest: str, to: Path) -> None:
    """Fetch an artifact into the file `to`, which appears whole and verified or not at all.

    What an interrupted download left in `<to>.partial` is gone on from; so one download of a file runs at a time.
    Raises ARTIFACT_NOT_FOUND, ARTIFACT_FORBIDDEN, DIGEST_MISMATCH, STORAGE_FULL, STORE_FAILED (this disk),
    COORDINATOR_UNREACHABLE.
    """
    checked_digest(digest)
    partial = to.with_name(f"{to.name}.partial")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("a+b") as file:
            await _receive(stub, digest, file)
            await asyncio.to_thread(os.fsync, file.fileno())
        partial.replace(to)
    except OSError as error:
        typed = disk_error(error, to)
        if typed.code is ErrorCode.STORAGE_FULL:
            partial.unlink(missing_ok=True)
        raise typed from error


async def fetch_bytes(stub: "ArtifactsAsyncStub", digest: str) -> bytes:
    """An artifact's content, verified. Raises as `download` does, but for the disk."""
    file = io.BytesIO()
    await _receive(stub, checked_digest(digest), file)
    return file.getvalue()


class _Attempts:
    """Decides whether to try again, and waits before it."""

    def __init__(self) -> None:
        self.restarted = False
        self._position = 0
        self._fruitless = 0

    async def again(self, error: grpc.RpcError | QuantfleetError, position: int) -> None:
        """Return to try again; raise the typed error otherwise. `position` is the offset that the attempt began at."""
        typed = _typed(error)
        if typed.code is ErrorCode.DIGEST_MISMATCH and position > 0 and not self.restarted:
            # The bytes of earlier attempts may be at fault: once more, from the start.
            self.restarted = True
            return
        self._fruitless = 1 if position > self._position else self._fruitless + 1
        self._position = max(position, self._position)
        if typed.category is not Category.UNREACHABLE or self._fruitless >= _ATTEMPTS:
            raise typed from error
        pause = min(_FIRST_PAUSE_S * 2 ** (self._fruitless - 1), _LONGEST_PAUSE_S)
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, guards nothing


def _typed(error: grpc.RpcError | QuantfleetError) -> QuantfleetError:
    return error if isinstance(error, QuantfleetError) else from_rpc_error(error)


def _unreadable(error: OSError) -> QuantfleetError:
    what = f"cannot read {error.filename}: {error.strerror}"
    return QuantfleetError(ErrorCode.DATA_NOT_FOUND, what, "check that the file is there and that you may read it")


@contextmanager
def _opened(source: bytes | Path) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        file = source.open("rb")
    except OSError as error:
        raise _unreadable(error) from error
    with file:
        yield file


async def _missing(stub: "ArtifactsAsyncStub", digests: list[str]) -> list[str]:
    attempts = _Attempts()
    while True:
        try:
            statuses = (await stub.Stat(StatRequest(digests=digests))).artifacts
            return [status.digest for status in statuses if not status.present]
        except (grpc.RpcError, QuantfleetError) as error:
            await attempts.again(error, 0)


async def _send(
    stub: "ArtifactsAsyncStub", file: BinaryIO, header: UploadHeader, sent: Callable[[int], None] | None
) -> None:
    failed: list[Exception] = []

    async def requests() -> AsyncIterator[UploadRequest]:
        yield UploadRequest(header=header)
        left = header.size - header.offset
        try:
            file.seek(header.offset)
            # grpc turns whatever is raised in here into a cancelled call, and the reason is lost.
            while left and (piece := await asyncio.to_thread(file.read, min(left, CHUNK_BYTES))):
                yield UploadRequest(chunk=piece)
                left -= len(piece)
                if sent is not None:
                    sent(len(piece))
        except Exception as error:
            failed.append(error)

    try:
        await stub.Upload(requests())
    except (grpc.RpcError, QuantfleetError):
        if not failed:
            raise
        if isinstance(failed[0], OSError):
            raise _unreadable(failed[0]) from failed[0]
        raise failed[0] from None


async def _receive(stub: "ArtifactsAsyncStub", digest: str, file: BinaryIO) -> None:
    content = hashlib.sha256()
    attempts = _Attempts()

    def take_over() -> None:
        file.seek(0)
        while piece := file.read(CHUNK_BYTES):
            content.update(piece)

    def take(piece: bytes) -> None:
        file.write(piece)
        file.flush()
        content.update(piece)

    await asyncio.to_thread(take_over)
    while True:
        offset = file.tell()
        call = stub.Download(DownloadRequest(digest=digest, offset=offset))
        try:
            async for response in call:
                await asyncio.to_thread(take, response.chunk)
            if content.hexdigest() == digest:
                return
            what = f"what arrived for artifact {digest} has the digest {content.hexdigest()}"
            raise QuantfleetError(ErrorCode.DIGEST_MISMATCH, what, "the coordinator's artifact directory is damaged")
        except (grpc.RpcError, QuantfleetError) as error:
            if _typed(error).code is ErrorCode.DIGEST_MISMATCH:
                file.seek(0)
                file.truncate()
                content = hashlib.sha256()
            await attempts.again(error, offset)
        finally:
            call.cancel()
