"""One upload on its way into the artifact directory. Not for where it comes from."""

import hashlib
import io
import os
import threading
from pathlib import Path

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.content import CHUNK_BYTES, disk_error


class Upload:
    """Writes a partial file and makes it the artifact `digest` of `size` bytes once it is verified.

    The directory makes it and calls `resume` once. Thread-safe: `abort` waits for a `write` in another thread.
    """

    def __init__(self, digest: str, size: int, partial: Path, final: Path) -> None:
        self.digest = digest
        self.size = size
        self.partial = partial
        self.received = 0
        self._final = final
        self._hash = hashlib.sha256()
        self._lock = threading.Lock()
        # Raw, so that what was written is in the file when a size is asked for and after a crash.
        self._file = io.FileIO(partial, "r+" if partial.exists() else "x+")

    def resume(self, source: Path, offset: int) -> None:
        """Take over the first `offset` bytes of `source`, which may be this upload's own partial file."""
        with self._lock:
            try:
                if source == self.partial:
                    self._file.truncate(offset)
                    while taken := self._file.read(CHUNK_BYTES):
                        self._take(taken)
                else:
                    with source.open("rb") as file:
                        while taken := file.read(min(CHUNK_BYTES, offset - self.received)):
                            self._append(taken)
            except FileNotFoundError as error:
                raise bytes_gone(self.digest, offset) from error
            except OSError as error:
                raise self._failed(error) from error

    def write(self, content: bytes) -> None:
        """Append. STORAGE_FULL and more bytes than announced (DIGEST_MISMATCH) remove what has arrived."""
        with self._lock:
            if self.received + len(content) > self.size:
                self._discard()
                raise self._mismatch(f"more than the announced {self.size} bytes arrived")
            try:
                self._append(content)
            except OSError as error:
                raise self._failed(error) from error

    def commit(self) -> None:
        """Verify, and make it durable under its digest. Raises DIGEST_MISMATCH, STORAGE_FULL or STORE_FAILED."""
        with self._lock:
            if self.received != self.size:
                self._discard()
                raise self._mismatch(f"{self.received} of {self.size} bytes arrived")
            if (actual := self._hash.hexdigest()) != self.digest:
                self._discard()
                raise self._mismatch(f"the content has the digest {actual}")
            try:
                os.fsync(self._file.fileno())
                if not self._final.parent.exists():
                    self._final.parent.mkdir(exist_ok=True)
                    _sync_directory(self._final.parent.parent)
                self.partial.rename(self._final)
                _sync_directory(self._final.parent)
            except OSError as error:
                raise self._failed(error) from error
            self._file.close()

    def abort(self) -> None:
        """Stop, and keep what has arrived for a later upload; nothing happens after `commit` or another `abort`."""
        with self._lock:
            self._file.close()

    @property
    def active(self) -> bool:
        """Whether it may still write its partial file."""
        return not self._file.closed

    def _append(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._take(content)

    def _take(self, content: bytes) -> None:
        self._hash.update(content)
        self.received += len(content)

    def _failed(self, error: OSError) -> QuantfleetError:
        typed = disk_error(error, self.partial)
        if typed.code is ErrorCode.STORAGE_FULL:
            self._discard()
        else:
            self._file.close()
        return typed

    def _discard(self) -> None:
        # The name first: a partial that is not active may be taken over by another upload.
        self.partial.unlink(missing_ok=True)
        self._file.close()

    def _mismatch(self, reason: str) -> QuantfleetError:
        todo = "upload it again from the start; if that fails too, the source changes while it is read"
        return QuantfleetError(ErrorCode.DIGEST_MISMATCH, f"artifact {self.digest} was refused: {reason}", todo)


def bytes_gone(digest: str, offset: int) -> QuantfleetError:
    """The error for going on from bytes that are not, or no longer, here."""
    what = f"fewer than {offset} bytes of artifact {digest} are here"
    return QuantfleetError(ErrorCode.STORE_FAILED, what, "ask how much is here, and go on from there")


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
