"""What calibration remembers of one activation tensor: a statistic that merges exactly. Not for choosing thresholds.

The float32 line is cut once and for all by the top 17 bits of a value's pattern: sign, 8 exponent bits and the first 8
mantissa bits; −0 counts as +0. Nothing is ever re-ranged, so neither the order in which samples arrive nor the way they
are sharded can change a count.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.errors import ErrorCode, QuantfleetError

STATISTIC_VERSION = 1
EXTREMES_VERSION = 2
"""The statistic of which only the extremes are known: it counts two elements of each sample, the smallest and the
largest, which may be one. Thresholds that follow from them are the same; it never merges with a whole statistic."""

BINS = 1 << 17
# So that 256ths of a count, in which the entropy calibrator computes, still fit in 63 bits.
MOST_ELEMENTS = 1 << 54
_SHIFT = 15
_SIGN_BIN = 1 << 16
_MAGNITUDE_MASK = _SIGN_BIN - 1
_FIRST_NON_FINITE = 0xFF00
_LAST_OF_BIN = (1 << _SHIFT) - 1
_NEGATIVE_ZERO = 1 << 31
_BLOCK = 1 << 16


@dataclass(frozen=True, eq=False)
class TensorStatistic:
    """Integer counts over the partition and the extremes of every sample. A value: its arrays are read-only.

    bins: int64 (B,), the occupied bins in increasing order; bin = float32 bits >> 15, 0 ≤ bin < 2^17.
    counts: int64 (B,), the number of elements in each, all positive.
    samples: int64 (N,), manifest indices in increasing order of the samples that had elements. A sample whose tensor
        was empty (a detector that found nothing) is not among them.
    sample_minimum, sample_maximum: float32 (N,), the exact extremes of each of these samples.

    Memory is bounded by the partition and 16 bytes a sample, whatever the size of the tensor.
    """

    bins: NDArray[np.int64]
    counts: NDArray[np.int64]
    samples: NDArray[np.int64]
    sample_minimum: NDArray[np.float32]
    sample_maximum: NDArray[np.float32]

    def __post_init__(self) -> None:
        for array in (self.bins, self.counts, self.samples, self.sample_minimum, self.sample_maximum):
            array.flags.writeable = False

    @property
    def elements(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    @property
    def minimum(self) -> float:
        """The exact smallest value; 0 where nothing was observed."""
        return float(self.sample_minimum.min()) if self.samples.size else 0.0

    @property
    def maximum(self) -> float:
        """The exact largest value; 0 where nothing was observed."""
        return float(self.sample_maximum.max()) if self.samples.size else 0.0

    @property
    def absmax(self) -> float:
        """The exact largest magnitude; 0 where nothing was observed."""
        return max(self.maximum, -self.minimum)

    @property
    def sample_absmax(self) -> NDArray[np.float32]:
        """Each sample's exact largest magnitude, float32 (N,)."""
        return np.maximum(self.sample_maximum, -self.sample_minimum)

    def magnitudes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The counts of abs(x): occupied magnitude bins in increasing order and their counts, both int64 (M,)."""
        negative = self.bins >= _SIGN_BIN
        dense = np.zeros(_SIGN_BIN, np.int64)
        dense[self.bins[~negative]] = self.counts[~negative]
        dense[self.bins[negative] & _MAGNITUDE_MASK] += self.counts[negative]
        occupied = np.flatnonzero(dense)
        return occupied, dense[occupied]

    def merge(self, other: "TensorStatistic") -> "TensorStatistic":
        """The statistic of both sample sets together: integer addition and a union of samples, exact in any order.

        Raises QuantfleetError(SAMPLES_OVERLAP) where a sample is in both.
        """
        overlap = np.intersect1d(self.samples, other.samples)
        if overlap.size:
            raise samples_overlap(int(overlap[0]), overlap.size)
        bins = np.union1d(self.bins, other.bins)
        counts = np.zeros(bins.size, np.int64)
        counts[np.searchsorted(bins, self.bins)] = self.counts
        counts[np.searchsorted(bins, other.bins)] += other.counts
        samples = np.concatenate((self.samples, other.samples))
        order = np.argsort(samples)
        return TensorStatistic(
            bins,
            counts,
            samples[order],
            np.concatenate((self.sample_minimum, other.sample_minimum))[order],
            np.concatenate((self.sample_maximum, other.sample_maximum))[order],
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TensorStatistic):
            return NotImplemented
        return (
            np.array_equal(self.bins, other.bins)
            and np.array_equal(self.counts, other.counts)
            and np.array_equal(self.samples, other.samples)
            and np.array_equal(self.sample_minimum, other.sample_minimum)
            and np.array_equal(self.sample_maximum, other.sample_maximum)
        )

    # Equality is by content of arrays; such a value is not a key.
    __hash__ = None  # type: ignore[assignment] # typeshed declares object.__hash__ callable; None is Python's own way


def extremes_statistic(
    samples: NDArray[np.int64], minimum: NDArray[np.float32], maximum: NDArray[np.float32]
) -> TensorStatistic:
    """The statistic of EXTREMES_VERSION: `samples` in increasing order, their finite extremes, all (N,); −0 is +0."""
    bins, counts = np.unique(bin_of(np.concatenate((minimum, maximum))), return_counts=True)
    return TensorStatistic(bins, counts.astype(np.int64), samples, minimum, maximum)


class StatisticAccumulator:
    """Counts one tensor's activations, sample by sample, for a `TensorStatistic`. `tensor` names it in errors.

    With `extremes_only` the statistic is that of EXTREMES_VERSION.
    """

    def __init__(self, tensor: str, *, extremes_only: bool = False) -> None:
        self._tensor = tensor
        self._counts = None if extremes_only else np.zeros(BINS, np.int64)
        self._extremes: dict[int, tuple[np.float32, np.float32]] = {}

    def observe(self, sample_index: int, array: NDArray[np.float32], sample_name: str) -> None:
        """Counts one sample's activation: `array` is float32 of any shape, `sample_index` its place in the manifest.

        Raises QuantfleetError: SAMPLE_NOT_FINITE where the array holds a NaN or an infinity (nothing is counted then),
        SAMPLES_OVERLAP where this sample was observed before. Raises TypeError where the array is not float32.
        """
        if array.dtype != np.float32:
            raise TypeError(f"tensor {self._tensor!r} is {array.dtype}; statistics are of float32 activations")
        if sample_index in self._extremes:
            raise samples_overlap(sample_index, 1)
        if array.size == 0:
            return
        flat = np.ascontiguousarray(array).reshape(-1)
        # Adding zero turns −0 into +0, so that equal extremes have equal bits.
        minimum, maximum = flat.min() + np.float32(0), flat.max() + np.float32(0)
        if not (np.isfinite(minimum) and np.isfinite(maximum)):
            raise sample_not_finite(self._tensor, int(np.count_nonzero(~np.isfinite(flat))), sample_name)
        if self._counts is not None:
            _count(self._counts, flat.view(np.uint32))
        self._extremes[sample_index] = (minimum, maximum)

    def statistic(self) -> TensorStatistic:
        """What was observed so far, as a value of its own."""
        indices = sorted(self._extremes)
        samples = np.array(indices, np.int64)
        minimum, maximum = (np.array([self._extremes[index][end] for index in indices], np.float32) for end in (0, 1))
        if self._counts is None:
            return extremes_statistic(samples, minimum, maximum)
        bins = np.flatnonzero(self._counts)
        return TensorStatistic(bins, self._counts[bins], samples, minimum, maximum)


def _count(counts: NDArray[np.int64], bits: NDArray[np.uint32]) -> None:
    before = counts[_SIGN_BIN]
    # Blocks keep the keys in the cache, and np.add.at needs no array as long as the partition for each of them.
    for start in range(0, bits.size, _BLOCK):
        np.add.at(counts, (bits[start : start + _BLOCK] >> _SHIFT).astype(np.intp), 1)
    if counts[_SIGN_BIN] > before:
        zeros = np.count_nonzero(bits == _NEGATIVE_ZERO)
        counts[_SIGN_BIN] -= zeros
        counts[0] += zeros


def bin_of(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """The bin of each value, int64 of the same shape; −0 is in the bin of +0."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return np.where(bits == _NEGATIVE_ZERO, 0, bits >> _SHIFT).astype(np.int64)


def is_finite_bin(bins: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a bin holds finite values, bool of the same shape."""
    return (bins & _MAGNITUDE_MASK) < _FIRST_NON_FINITE


def smallest_magnitude(magnitude_bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """The smallest value of each magnitude bin, exact in float64."""
    return (magnitude_bins.astype(np.uint32) << _SHIFT).view(np.float32).astype(np.float64)


def largest_magnitude(magnitude_bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """The largest value of each magnitude bin (inclusive), exact in float64."""
    return ((magnitude_bins.astype(np.uint32) << _SHIFT) | _LAST_OF_BIN).view(np.float32).astype(np.float64)


def samples_overlap(index: int, count: int) -> QuantfleetError:
    """The error for samples that would be counted twice: the first index and how many there are."""
    others = f" and {count - 1} more" if count > 1 else ""
    return QuantfleetError(
        ErrorCode.SAMPLES_OVERLAP,
        f"sample {index}{others} of the manifest would be counted twice",
        "merge only partial statistics of disjoint samples",
    )


def sample_not_finite(tensor: str, count: int, sample_name: str) -> QuantfleetError:
    """The error for a tensor with `count` values on one sample that are NaN or infinite."""
    return QuantfleetError(
        ErrorCode.SAMPLE_NOT_FINITE,
        f"tensor {tensor!r} holds {count} NaN or infinite values on sample {sample_name!r}",
        "check the preprocessing of this sample, or leave it out of the calibration data",
    )
