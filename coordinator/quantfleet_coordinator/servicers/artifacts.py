"""The Artifacts service over an artifact directory. Not for who may read what: that is asked of `may_read`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

import grpc

from quantfleet_coordinator.artifacts.cas import ArtifactDirectory
from quantfleet_coordinator.artifacts.upload import Upload as OpenUpload
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_protos.v1 import artifacts_pb2, artifacts_pb2_grpc

_MOST_DIGESTS: Final = 4096

# The servicer never looks into the context.
Context = grpc.aio.ServicerContext[Any, Any]


class ArtifactsServicer(artifacts_pb2_grpc.ArtifactsServicer):
    """Serves `directory`; the disk is touched on threads.

    `record(digest, size)` makes the artifact's row durable; it is awaited before an upload is acknowledged, also for
    an artifact that was there already. `may_read(digest)` raises ARTIFACT_FORBIDDEN; it runs in the task of the call.
    """

    def __init__(
        self,
        directory: ArtifactDirectory,
        record: Callable[[str, int], Awaitable[None]],
        may_read: Callable[[str], None],
    ) -> None:
        self._directory = directory
        self._record = record
        self._may_read = may_read
        # Stored, but without a row so far: asked about, they are not there yet, so that their senders call again.
        self._unrecorded: set[str] = set()
        # The loop holds tasks weakly; these go on when their call is cancelled.
        self._finishing: set[asyncio.Future[int]] = set()

    async def Stat(self, request: artifacts_pb2.StatRequest, context: Context) -> artifacts_pb2.StatResponse:
        """What is stored of these artifacts. Raises USAGE for too many, or for what is no digest."""
        if len(request.digests) > _MOST_DIGESTS:
            what = f"{len(request.digests)} digests in one question"
            raise QuantfleetError(ErrorCode.USAGE, what, f"ask for at most {_MOST_DIGESTS} at a time")
        return artifacts_pb2.StatResponse(artifacts=await asyncio.to_thread(self._statuses, request.digests))

    async def Upload(
        self, request_iterator: AsyncIterator[artifacts_pb2.UploadRequest], context: Context
    ) -> artifacts_pb2.UploadResponse:
        """Receive one artifact. What arrived before an interruption is kept; see `ArtifactDirectory.begin`."""
        first = await anext(request_iterator, artifacts_pb2.UploadRequest())
        if first.WhichOneof("part") != "header":
            raise QuantfleetError(ErrorCode.USAGE, "an upload without its header", "send the header first")
        header = first.header
        if await asyncio.to_thread(self._directory.has, header.digest):
            return artifacts_pb2.UploadResponse(size=await self._finish(header.digest, None))
        upload = await asyncio.to_thread(self._directory.begin, header.digest, header.size, header.offset)
        try:
            async for request in request_iterator:
                await asyncio.to_thread(upload.write, request.chunk)
            if upload.received < upload.size:
                what = f"the upload of {header.digest} ended after {upload.received} of {upload.size} bytes"
                raise QuantfleetError(ErrorCode.DIGEST_MISMATCH, what, "go on from there")
        except BaseException:
            await asyncio.to_thread(upload.abort)
            raise
        # An artifact that is stored gets its row, though its sender is gone: the next one would not send it again.
        finishing = asyncio.ensure_future(self._finish(header.digest, upload))
        self._finishing.add(finishing)
        finishing.add_done_callback(self._finishing.discard)
        return artifacts_pb2.UploadResponse(size=await asyncio.shield(finishing))

    async def Download(
        self, request: artifacts_pb2.DownloadRequest, context: Context
    ) -> AsyncIterator[artifacts_pb2.DownloadResponse]:
        """Send one artifact from an offset. Raises ARTIFACT_FORBIDDEN, ARTIFACT_NOT_FOUND, or DIGEST_MISMATCH."""
        self._may_read(request.digest)
        pieces = self._directory.read(request.digest, request.offset)
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield artifacts_pb2.DownloadResponse(chunk=piece)

    async def _finish(self, digest: str, upload: OpenUpload | None) -> int:
        if upload is not None:
            self._unrecorded.add(digest)
            await asyncio.to_thread(upload.commit)
        size = await asyncio.to_thread(self._directory.size, digest)
        await self._record(digest, size)
        self._unrecorded.discard(digest)
        return size

    def _statuses(self, digests: Sequence[str]) -> list[artifacts_pb2.ArtifactStatus]:
        return [self._status(digest) for digest in digests]

    def _status(self, digest: str) -> artifacts_pb2.ArtifactStatus:
        if self._directory.has(digest):
            size, present = self._directory.size(digest), digest not in self._unrecorded
            return artifacts_pb2.ArtifactStatus(digest=digest, present=present, size=size)
        return artifacts_pb2.ArtifactStatus(digest=digest, size=self._directory.partial_size(digest))
