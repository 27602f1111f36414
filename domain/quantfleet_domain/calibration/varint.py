"""Arrays of unsigned integers as LEB128 varints, vectorised. Not a general serialiser.

Format: seven bits a byte, least significant first, the top bit set on every byte but the last of a number
(https://protobuf.dev/programming-guides/encoding/#varints). Numbers are below 2^63, so at most nine bytes each.
"""

import numpy as np
from numpy.typing import NDArray

_MAX_BYTES = 9


def encode_varints(values: NDArray[np.int64]) -> bytes:
    """The varints of non-negative int64 `values` of shape (N,), one after another."""
    remaining = values.astype(np.uint64)
    lengths = np.ones(values.size, np.int64)
    for power in range(1, _MAX_BYTES):
        lengths += remaining >> np.uint64(7 * power) != 0
    starts = np.cumsum(lengths) - lengths
    out = np.zeros(int(lengths.sum()), np.uint8)
    for position in range(_MAX_BYTES):
        present = lengths > position
        if not present.any():
            break
        group = (remaining[present] >> np.uint64(7 * position)) & np.uint64(0x7F)
        more = (lengths[present] > position + 1).astype(np.uint64) << np.uint64(7)
        out[starts[present] + position] = group | more
    return out.tobytes()


def decode_varints(data: NDArray[np.uint8], count: int) -> tuple[NDArray[np.int64], int]:
    """The first `count` varints of `data` (uint8), as int64 (count,), and how many bytes they took.

    Raises ValueError where the data ends too early or a number needs more than 63 bits.
    """
    window = data[: count * _MAX_BYTES]
    ends = np.flatnonzero(window < 0x80)[:count]
    if ends.size < count:
        raise ValueError("a number is cut off or longer than 63 bits")
    if count == 0:
        return np.zeros(0, np.int64), 0
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MAX_BYTES:
        raise ValueError("a number is longer than 63 bits")
    values = np.zeros(count, np.int64)
    for position in range(int(lengths.max())):
        present = lengths > position
        group = (window[starts[present] + position] & 0x7F).astype(np.int64)
        values[present] |= group << (7 * position)
    return values, int(ends[-1]) + 1
