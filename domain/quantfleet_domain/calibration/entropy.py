"""The entropy calibrator's search for a threshold. Not for the other calibrators (see `calibrators`).

The method is that of S. Migacz, "8-bit Inference with TensorRT" (GTC 2017), in the form that NVIDIA published with its
pytorch-quantization toolkit: `calib/histogram.py`, `_compute_amax_entropy`.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.calibration.statistic import TensorStatistic, largest_magnitude, smallest_magnitude

BINS = 2048
LEVELS = 128
_WIDEST_LEVEL = BINS // LEVELS
# A count is spread over equal bins in steps of 1/256, so that sums of shares stay integers.
_STEPS = 256
# Divergences are compared in steps of 2^-40 nats, far above the rounding of their sums and far below their meaning.
_RESOLUTION = 2.0**40
_LN2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476
_SERIES_TERMS = 11


def entropy_threshold(statistic: TensorStatistic) -> float:
    """The t that loses least information: the smallest KL divergence, and of equal ones the largest t.

    Result in [absmax / 16, absmax], a multiple of absmax / 2048. Exact zeros (and all else in the first bin) do not
    count: its mass is replaced by its neighbour's. A rectified tensor is zero to three quarters and more; kept, that
    mass would make what is clipped negligible and the first candidate, absmax / 16, the best.
    """
    return statistic.absmax * (bins_to_keep(divergences(equal_bins(statistic))) / BINS)


def bins_to_keep(candidates: NDArray[np.float64]) -> int:
    """How many bins the best candidate keeps, of equal ones the widest; `candidates` as from `divergences`."""
    scores = np.rint(candidates * _RESOLUTION)
    return LEVELS + scores.size - 1 - int(np.argmin(scores[::-1]))


def equal_bins(statistic: TensorStatistic) -> NDArray[np.int64]:
    """Counts of abs(x), in 256ths, over 2048 equal bins of [0, absmax]: int64 (2048,). absmax must be positive.

    The count of each bin of the partition is spread proportionally over the equal bins that it meets.
    """
    magnitudes, counts = statistic.magnitudes()
    absmax = statistic.absmax
    least = max(0.0, statistic.minimum, -statistic.maximum)
    low = np.maximum(smallest_magnitude(magnitudes), least)
    high = np.minimum(largest_magnitude(magnitudes), absmax)
    edges = np.arange(BINS + 1, dtype=np.float64) * (absmax / BINS)
    below = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    place = np.maximum(np.searchsorted(low, edges, side="right") - 1, 0)
    width = high[place] - low[place]
    # Not np.interp: its compiled loop may fuse the multiplication and the addition on one processor and not on another.
    share = np.clip((edges - low[place]) / np.where(width > 0, width, 1.0), 0.0, 1.0)
    cumulative = below[place] * _STEPS + np.rint(counts[place] * _STEPS * share).astype(np.int64)
    cumulative[-1] = below[-1] * _STEPS
    return np.diff(cumulative, prepend=0)[1:]


def divergences(histogram: NDArray[np.int64]) -> NDArray[np.float64]:
    """KL(P‖Q) in nats for the candidates of 128, 129, … 2048 kept bins: float64 (1921,), inf where Q is 0 and P not.

    histogram: int64 (2048,) over equal bins, not all of it in the first. The first bin is replaced by the second. P is
    the kept bins with the mass beyond them added to the last; Q is the kept bins in 128 levels, each level's mass
    spread evenly over those of its bins that are not empty; both are divided by the mass of P.

    So Q lacks what the candidate clips, and the divergence is Csiszár's for measures, Σ P ln(P/Q) − ΣP + ΣQ. The
    published form normalises Q; for a clipped share f they differ by −ln(1 − f) − f, next to nothing for the outliers
    that the method is meant to clip. But with Q normalised, a candidate whose last bin holds all that it keeps scores
    perfectly whatever it clips: values in [5, 10] would be clipped at 5.

    All sums are taken in one order by additions, and the logarithm is made of elementary operations, so the bits do
    not depend on the machine.
    """
    kept = histogram.copy()
    kept[0] = kept[1]
    cumulative = np.concatenate((np.zeros(1, np.int64), np.cumsum(kept)))
    occupied = np.concatenate((np.zeros(1, np.int64), np.cumsum(kept > 0)))
    total = float(cumulative[-1])
    candidates = np.arange(LEVELS, BINS + 1)

    # What a level of `width` bins from `start` contributes, for all of them: shape (16, 2049).
    start = np.arange(BINS + 1)
    end = np.minimum(start + np.arange(1, _WIDEST_LEVEL + 1)[:, None], BINS)
    mass = (cumulative[end] - cumulative[start]) / total
    log_density = _log_or_zero(mass / np.maximum(occupied[end] - occupied[start], 1))
    levels = _levels()
    terms = (mass * log_density).reshape(-1)
    cross = np.zeros(candidates.size)
    for level in levels:
        cross += terms[level]

    p = kept / total
    self_information = np.concatenate((np.zeros(1), np.cumsum(p * _log_or_zero(p))))
    beyond = (cumulative[-1] - cumulative[candidates]) / total
    last = p[candidates - 1] + beyond
    result: NDArray[np.float64] = (
        self_information[candidates - 1]
        + last * _log_or_zero(last)
        - cross
        - beyond * log_density.reshape(-1)[levels[-1]]
        - beyond
    )
    result[(kept[candidates - 1] == 0) & (beyond > 0)] = np.inf
    return result


@cache
def _levels() -> NDArray[np.int64]:
    """For each of 128 levels and each candidate the place in a flat (16, 2049) of (width less one, first bin).

    int64 (128, 1921). Bin j of a candidate of i bins belongs to level floor(128 j / i).
    """
    candidates = np.arange(LEVELS, BINS + 1)
    bounds = -(-np.arange(LEVELS + 1)[:, None] * candidates // LEVELS)
    places: NDArray[np.int64] = (np.diff(bounds, axis=0) - 1) * (BINS + 1) + bounds[:-1]
    return places


def _log_or_zero(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln x, and 0 for x = 0 (so that x ln x is right there), within a few units in the last place.

    ln(m 2^e) = e ln 2 + 2 artanh((m − 1) / (m + 1)). The library's logarithm, numpy's vectorised one and the C one
    alike, has other last bits on another processor; additions, multiplications and divisions do not.
    """
    mantissa, exponent = np.frexp(np.where(x > 0, x, 1.0))
    small = mantissa < _SQRT_HALF
    mantissa = np.where(small, mantissa * 2, mantissa)
    s = (mantissa - 1) / (mantissa + 1)
    square = s * s
    series = np.zeros_like(s)
    for term in range(_SERIES_TERMS, -1, -1):
        series = series * square + 1 / (2 * term + 1)
    result: NDArray[np.float64] = (exponent - small) * _LN2 + 2 * s * series
    return result
