"""Input files on this node, by digest; the least recently used go when there are too many. Not for outputs."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from quantfleet_domain.jobs.manifest import Manifest
from quantfleet_domain.jobs.plan import files_of, slice_of
from quantfleet_domain.jobs.work import Work
from quantfleet_wire.transfer import download

if TYPE_CHECKING:
    from quantfleet_protos.v1.artifacts_pb2_grpc import ArtifactsAsyncStub

DOWNLOADS_AT_ONCE = 8


class Cache:
    """A directory of files named by digest, `limit_bytes` large at most while nothing in use is larger."""

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._limit_bytes = limit_bytes
        self._used: Counter[str] = Counter()
        self._fetching: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def inputs(self, stub: "ArtifactsAsyncStub", work: Work) -> AsyncIterator[None]:
        """Have every file of a task here, its samples too, until the block ends. Raises as `download` does."""
        digests = {ref.digest for ref in files_of(work)}
        self._used.update(digests)
        try:
            await self._fetch(stub, digests)
            samples = await asyncio.to_thread(self._samples, work)
            self._used.update(samples - digests)
            digests |= samples
            await self._fetch(stub, samples)
            yield
        finally:
            self._used.subtract(digests)
            await asyncio.to_thread(self._evict)

    def _samples(self, work: Work) -> set[str]:
        part = slice_of(work)
        if part is None:
            return set()
        manifest = Manifest.from_json((self.directory / part.manifest.digest).read_bytes())
        return {sample.digest for sample in manifest.samples[part.first : part.first + part.count]}

    async def _fetch(self, stub: "ArtifactsAsyncStub", digests: Iterable[str]) -> None:
        room = asyncio.Semaphore(DOWNLOADS_AT_ONCE)

        async def one(digest: str) -> None:
            path = self.directory / digest
            # Two tasks may want one file at the same time.
            async with room, self._fetching.setdefault(digest, asyncio.Lock()):
                if path.exists():
                    with suppress(OSError):
                        os.utime(path, (time.time(), time.time()))
                else:
                    await download(stub, digest, path)

        await asyncio.gather(*(one(digest) for digest in sorted(digests)))

    def _evict(self) -> None:
        files = [(path, path.stat()) for path in self.directory.iterdir() if len(path.name) == 64]
        total = sum(stat.st_size for _, stat in files)
        for path, stat in sorted(files, key=lambda item: item[1].st_mtime):
            if total <= self._limit_bytes:
                return
            if self._used[path.name] <= 0:
                path.unlink(missing_ok=True)
                total -= stat.st_size
