"""One coordinator owns a state directory at a time. Not for locking between threads."""

import fcntl
import os
from pathlib import Path

from quantfleet_domain.errors import ErrorCode, QuantfleetError


class Ownership:
    """Holds `directory` (made when missing, mode 0700) for this process until `release`, or until the process dies.

    Raises STORE_FAILED when another process, or this one, holds it already, or when it cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / "owner.lock"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            todo = "give a directory on a local disk that this user may write"
            raise QuantfleetError(ErrorCode.STORE_FAILED, f"cannot use {directory}: {error.strerror}", todo) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            owner = path.read_text() or "unknown"
            what = f"{directory} belongs to a coordinator that is running (process {owner})"
            todo = "stop that coordinator, or give this one a state directory of its own"
            raise QuantfleetError(ErrorCode.STORE_FAILED, what, todo) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Give the directory back; releasing twice is no error."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
