"""Bytes named by their SHA-256: computing and checking digests, and what a failing disk means. Not for moving them."""

import errno
import hashlib
import re
from pathlib import Path
from typing import Final

from quantfleet_domain.errors import ErrorCode, QuantfleetError

CHUNK_BYTES: Final = 1 << 20
"""How many bytes travel in one message."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
# EFBIG: the limit of a process or a file system on the size of a file; EDQUOT: a user's quota.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def digest_bytes(content: bytes) -> str:
    """The SHA-256 of `content`, lower-case hex."""
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """The SHA-256 of a file's content, lower-case hex. Blocks while it reads; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked_digest(digest: str) -> str:
    """`digest` itself. Raises USAGE when it is not 64 lower-case hex digits, so that it can stand in a path."""
    if not _DIGEST.fullmatch(digest):
        todo = "give 64 lower-case hexadecimal digits"
        raise QuantfleetError(ErrorCode.USAGE, f"{digest!r:.100} is not a SHA-256 digest", todo)
    return digest


def disk_error(error: OSError, path: Path) -> QuantfleetError:
    """What a user is told when reading or writing `path` failed: STORAGE_FULL, or STORE_FAILED for anything else."""
    if error.errno in _FULL:
        todo = f"free space on the disk of {path.parent}"
        return QuantfleetError(ErrorCode.STORAGE_FULL, f"no space left to write {path}", todo)
    what = f"{path}: {error.strerror or error}"
    return QuantfleetError(ErrorCode.STORE_FAILED, what, "check that path, its disk and its permissions")
