"""Input files on this node, by digest; the least recently used go when there are too many. Not for outputs."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from quantfleet_domain.jobs.assignment import files_of, slices_of
from quantfleet_domain.jobs.manifest import Manifest
from quantfleet_domain.jobs.work import Work
from quantfleet_wire.transfer import download

if TYPE_CHECKING:
    from quantfleet_protos.v1.artifacts_pb2_grpc import ArtifactsAsyncStub

DOWNLOADS_AT_ONCE = 8


class Cache:
    """A directory of files named by digest, `limit_bytes` large at most while nothing in use is larger.

    Belongs to one event loop: what is in use, what is looked for and what is removed is decided there, without a pause.
    """

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._limit_bytes = limit_bytes
        self._used: Counter[str] = Counter()
        self._fetching: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def inputs(self, stub: "ArtifactsAsyncStub", work: Work) -> AsyncIterator[None]:
        """Have every file of a task here, samples and masks too, until the block ends. Raises as `download` does."""
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
            self._release(digests)
            await self._evict()

    def _release(self, digests: Iterable[str]) -> None:
        self._used.subtract(digests)
        for digest in digests:
            if not self._used[digest]:  # so nobody waits for its lock either
                del self._used[digest]
                self._fetching.pop(digest, None)

    def _samples(self, work: Work) -> set[str]:
        found: set[str] = set()
        for part in slices_of(work):
            manifest = Manifest.from_json((self.directory / part.manifest.digest).read_bytes())
            found |= manifest.digests(part.first, part.count)
        return found

    async def _fetch(self, stub: "ArtifactsAsyncStub", digests: Iterable[str]) -> None:
        queue = iter(sorted(digests))

        async def fetch_next() -> None:
            for digest in queue:
                path = self.directory / digest
                # Two tasks may want one file at the same time.
                async with self._fetching.setdefault(digest, asyncio.Lock()):
                    if path.exists():
                        with suppress(OSError):
                            os.utime(path, (time.time(), time.time()))
                    else:
                        await download(stub, digest, path)

        try:
            # A group, so that nothing is still being fetched when this has failed.
            async with asyncio.TaskGroup() as group:
                for _ in range(DOWNLOADS_AT_ONCE):
                    group.create_task(fetch_next())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _evict(self) -> None:
        files = await asyncio.to_thread(self._files)
        total = sum(size for _, size, _ in files)
        for name, size, _ in sorted(files, key=lambda file: file[2]):
            if total <= self._limit_bytes:
                return
            # What an interrupted download left (see `download`) goes like a whole file.
            if not self._used[name.removesuffix(".partial")]:
                (self.directory / name).unlink(missing_ok=True)
                total -= size

    def _files(self) -> list[tuple[str, int, float]]:
        """(name, bytes, last use) of every file."""
        found = []
        for path in self.directory.iterdir():
            with suppress(FileNotFoundError):  # another task has just removed or renamed it
                stat = path.stat()
                found.append((path.name, stat.st_size, stat.st_mtime))
        return found
