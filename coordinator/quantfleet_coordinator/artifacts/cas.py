"""Content-addressed files in a local directory. Not for who may read them, nor for when they may go (`collector`).

A whole artifact is `objects/<two digits>/<digest>`; what is on its way is `partial/<digest>.<random>`, a file per
upload and never a name twice, so that uploads of the same artifact cannot harm each other. All calls block on the disk.
"""

import secrets
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

from quantfleet_coordinator.artifacts.upload import Upload, bytes_gone
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.content import CHUNK_BYTES, checked_digest, digest_bytes, disk_error


class ArtifactDirectory:
    """Artifacts under `path`, which one process uses at a time. Thread-safe.

    Digests are SHA-256, 64 lower-case hex digits; every method raises USAGE for anything else.
    Making it makes the directories, and raises STORE_FAILED where that fails.
    """

    def __init__(self, path: Path) -> None:
        self._objects = path / "objects"
        self._partial = path / "partial"
        try:
            for directory in (self._objects, self._partial):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, path) from error
        # Weak, so that an upload whose caller went away without a word frees its partial file.
        self._uploads: weakref.WeakSet[Upload] = weakref.WeakSet()
        self._lock = threading.Lock()

    def path(self, digest: str) -> Path:
        """Where the artifact is, or would be."""
        return self._objects / checked_digest(digest)[:2] / digest

    def has(self, digest: str) -> bool:
        """Whether it is stored whole."""
        return self.path(digest).exists()

    def size(self, digest: str) -> int:
        """The size of a stored artifact, bytes. Raises ARTIFACT_NOT_FOUND."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise _not_found(digest) from None

    def partial_size(self, digest: str) -> int:
        """How many bytes of an interrupted upload are here to go on from; 0 where there are none."""
        return max((size for _, size in self._partials(digest)), default=0)

    def stored(self) -> Iterator[tuple[str, int]]:
        """Every whole artifact: digest and size in bytes. For finding files that lost their record in a crash."""
        for file in self._objects.glob("??/*"):
            yield file.name, file.stat().st_size

    def begin(self, digest: str, size: int, offset: int = 0) -> Upload:
        """Start to receive an artifact of `size` bytes from `offset`, which is at most `partial_size`.

        What is here is read again for its digest; where another upload still writes it, a copy is taken.
        Raises USAGE for a negative number or an offset beyond the size, STORAGE_FULL, and STORE_FAILED when the bytes
        before `offset` are gone: ask for `partial_size` again.
        """
        checked_digest(digest)
        if not 0 <= offset <= size:
            what = f"an upload of {size} bytes cannot go on from byte {offset}"
            raise QuantfleetError(ErrorCode.USAGE, what, "give an offset between 0 and the size")
        with self._lock:
            active = {upload.partial for upload in self._uploads if upload.active}
            partials = sorted(self._partials(digest), key=lambda entry: entry[1], reverse=True)
            long_enough = [path for path, available in partials if available >= offset]
            if offset and not long_enough:
                raise bytes_gone(digest, offset)
            free = [path for path in long_enough if path not in active]
            partial = free[0] if free else self._partial / f"{digest}.{secrets.token_hex(8)}"
            try:
                upload = Upload(digest, size, partial, self.path(digest))
            except OSError as error:
                raise disk_error(error, partial) from error
            self._uploads.add(upload)
        upload.resume(partial if free or not offset else long_enough[0], offset)
        return upload

    def put_bytes(self, content: bytes) -> str:
        """Store `content` durably and return its digest. Raises STORAGE_FULL or STORE_FAILED."""
        digest = digest_bytes(content)
        if not self.has(digest):
            upload = self.begin(digest, len(content))
            upload.write(content)
            upload.commit()
        return digest

    def read(self, digest: str, offset: int = 0) -> Iterator[bytes]:
        """The content from `offset`, in pieces of at most 1 MiB.

        The first step raises ARTIFACT_NOT_FOUND, or DIGEST_MISMATCH for an offset beyond the end (whoever asks has
        bytes of something else).
        """
        size = self.size(digest)
        if not 0 <= offset <= size:
            what = f"artifact {digest} has {size} bytes, so nothing goes on from byte {offset}"
            raise QuantfleetError(ErrorCode.DIGEST_MISMATCH, what, "fetch it from the start")
        try:
            with self.path(digest).open("rb", buffering=0) as file:
                file.seek(offset)
                while piece := file.read(CHUNK_BYTES):
                    yield piece
        except FileNotFoundError:
            raise _not_found(digest) from None
        except OSError as error:
            raise disk_error(error, self.path(digest)) from error

    def delete(self, digest: str) -> None:
        """Remove an artifact; one that is not there is no error. Whoever is reading it reads to the end."""
        try:
            self.path(digest).unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(error, self.path(digest)) from error

    def sweep(self, before: float) -> list[Path]:
        """Remove, and return, partial files last written before a time (Unix seconds), or stored whole by now."""
        with self._lock:
            active = {upload.partial for upload in self._uploads if upload.active}
            stale = [
                path
                for path in self._partial.iterdir()
                if path not in active and (path.stat().st_mtime < before or self.has(path.name.partition(".")[0]))
            ]
            for path in stale:
                path.unlink()
        return stale

    def _partials(self, digest: str) -> list[tuple[Path, int]]:
        found = []
        for path in self._partial.glob(f"{checked_digest(digest)}.*"):
            try:
                found.append((path, path.stat().st_size))
            except FileNotFoundError:  # it was committed or discarded meanwhile
                continue
        return found


def _not_found(digest: str) -> QuantfleetError:
    todo = "upload it again: artifacts that no kept job refers to are collected"
    return QuantfleetError(ErrorCode.ARTIFACT_NOT_FOUND, f"artifact {digest} is not stored", todo)
