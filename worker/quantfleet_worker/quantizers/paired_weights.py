"""Weight scales for x86 without VNNI, where pairs of products saturate. Not for other weights.

There ONNX Runtime multiplies with VPMADDUBSW: two neighbouring products of a u8 activation and an s8 weight are added
in int16, which saturates beyond 32767. Seven-bit weights (`reduce_range`) avoid that at the price of half the
resolution of every weight. But only neighbours along the reduction axis are added, so it is enough that two neighbours
of one sign sum to at most 128 in magnitude: 255 · 128 < 32768. A channel whose scale is raised just so far keeps most
of its bits.
"""

import numpy as np
from numpy.typing import NDArray

_LARGEST_SUM = 128.0
_ROUNDING = 1.0  # two weights may each be rounded up by a half


def paired_scales(
    weight: NDArray[np.float32], axis: int, scales: NDArray[np.float32], groups: int
) -> NDArray[np.float32]:
    """`scales` (C,), raised where neighbouring weights of a channel would saturate: float32 (C,).

    `weight` is a Conv's [C, K, …] with axis 0 or a matrix with axis 0 or 1. A convolution with one input channel per
    group has kernels of its own that do not add in pairs: its scales stay.
    """
    peaks = largest_pairs(weight, axis, groups)
    needed = peaks / (_LARGEST_SUM - _ROUNDING)
    raised = np.nextafter(needed.astype(np.float32), np.float32(np.inf))
    return np.where(needed > scales, raised, scales).astype(np.float32)


def largest_pairs(weight: NDArray[np.float32], axis: int, groups: int) -> NDArray[np.float64]:
    """The largest magnitude to which two neighbours of one sign sum in each channel, float64 (C,); as `paired_scales`.

    Zeros where products do not add in pairs.
    """
    rows = np.moveaxis(weight.astype(np.float64), axis, 0)
    if groups > 1 and rows.shape[1] == 1:
        return np.zeros(rows.shape[0])
    spatial = rows.reshape(rows.shape[0], rows.shape[1], -1)
    # The three orders in which the reduction is laid out: NCHW, NHWC, and NHWC with each kernel position padded.
    peaks: NDArray[np.float64] = np.max(
        [
            _largest_pair(spatial.reshape(rows.shape[0], 1, -1)),
            _largest_pair(spatial.transpose(0, 2, 1).reshape(rows.shape[0], 1, -1)),
            _largest_pair(spatial.transpose(0, 2, 1)),
        ],
        axis=0,
    )
    return peaks


def _largest_pair(lines: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest |a + b| over pairs (0, 1), (2, 3), … of each line [C, lines, length], of one sign at a time: (C,)."""
    if lines.shape[2] % 2:
        lines = np.concatenate([lines, np.zeros((*lines.shape[:2], 1))], axis=2)
    sums = [np.maximum(sign * lines, 0.0) for sign in (1.0, -1.0)]
    peaks: NDArray[np.float64] = np.max([(s[:, :, 0::2] + s[:, :, 1::2]).max(axis=(1, 2)) for s in sums], axis=0)
    return peaks
