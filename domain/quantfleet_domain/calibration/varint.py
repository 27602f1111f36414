"""Arrays of unsigned integers as LEB128 varints, vectorised. Not a general serialiser.

Format: seven bits a byte, least significant first, the top bit set on every byte but the last of a number
(https://protobuf.dev/programming-guides/encoding/#varints). Numbers are below 2^63, so at most nine bytes each.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_BYTES = 9
_NARROW_BYTES = 4
_USUAL_BYTES = 2


def encode_varints(values: NDArray[np.int64]) -> bytes:
    """The varints of non-negative int64 `values` of shape (N,), one after another."""
    longest = max(1, -(-int(values.max(initial=0)).bit_length() // 7))
    # Half the width is twice the speed, and counts seldom need more.
    remaining: NDArray[Any] = values.astype(np.uint32 if longest <= _NARROW_BYTES else np.uint64)
    groups = np.empty((values.size, longest), np.uint8)
    present = np.ones((values.size, longest), np.bool_)
    for position in range(longest):
        following = remaining >> 7
        more = following != 0
        groups[:, position] = (remaining & 0x7F) | (more * np.uint8(0x80))
        if position + 1 < longest:
            present[:, position + 1] = more
        remaining = following
    return groups[present].tobytes()


def decode_varints(data: NDArray[np.uint8], count: int) -> tuple[NDArray[np.int64], int]:
    """The first `count` varints of `data` (uint8), as int64 (count,), and how many bytes they took.

    Raises ValueError where the data ends too early or a number needs more than 63 bits.
    """
    ends = np.flatnonzero(data[: count * _USUAL_BYTES] < 0x80)
    if ends.size < count:
        ends = np.flatnonzero(data[: count * _MAX_BYTES] < 0x80)
    ends = ends[:count]
    if ends.size < count:
        raise ValueError("a number is cut off or longer than 63 bits")
    if count == 0:
        return np.zeros(0, np.int64), 0
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1))
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > _MAX_BYTES:
        raise ValueError("a number is longer than 63 bits")
    values = (data[starts] & 0x7F).astype(np.int64)
    for position in range(1, longest):
        longer = np.flatnonzero(lengths > position)
        values[longer] |= (data[starts[longer] + position] & 0x7F).astype(np.int64) << (7 * position)
    return values, int(ends[-1]) + 1
