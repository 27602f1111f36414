"""What quantizing a tensor costs: the squared error expected of a clip range. Not for choosing the range.

A bin of the statistic is taken as uniform between its edges, or between the tensor's exact extremes where these lie
inside it, and the error of rounding and clipping is integrated over it, exactly. Bins are narrow: 1/256 of their values
at the most, hence narrower than a step of 8 bits wherever nothing is clipped. What the model cannot see is values that
favour certain points within a bin, as those of 8-bit pictures do.

All of it is additions, multiplications, divisions and roundings in float64, and sums are taken one term after another,
so that the bits do not depend on the processor.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.calibration.forms import (
    ActivationForm,
    QuantizationParameters,
    activation_parameters,
    clip_range,
)
from quantfleet_domain.calibration.statistic import BINS, TensorStatistic, largest_magnitude, smallest_magnitude

_FIRST_NEGATIVE_BIN = BINS // 2
_INTEGERS = {np.uint8: (0, 255), np.int8: (-127, 127)}
_AS_IF_EXACT, _MOST_DB = 1e-12, 120.0

JUDGED_IN = ActivationForm.U8_AFFINE
"""The form in which a range is judged where it serves all engines: the engines at hand take unsigned tensors as u8, and
its steps are the finest. Coarser steps would call for more clipping, which then serves nobody: what a step too coarse
costs is bounded by the step, what clipping costs is not."""


@dataclass(frozen=True, eq=False)
class Density:
    """A tensor's values in uniform pieces: `counts[i]` values between low[i] and high[i], all float64 (B,).

    The pieces lie in increasing order; one of width 0 is a value by itself. `power` is the sum of squares of all
    values, `minimum` and `maximum` are the exact extremes (0 where nothing was observed).
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    counts: NDArray[np.float64]
    power: float
    minimum: float
    maximum: float

    @staticmethod
    def of(statistic: TensorStatistic) -> "Density":
        """The occupied bins of a statistic, one piece each."""
        negative = statistic.bins >= _FIRST_NEGATIVE_BIN
        magnitudes = statistic.bins % _FIRST_NEGATIVE_BIN
        near, far = smallest_magnitude(magnitudes), largest_magnitude(magnitudes)
        low = np.maximum(np.where(negative, -far, near), statistic.minimum)
        high = np.minimum(np.where(negative, -near, far), statistic.maximum)
        order = np.argsort(low)
        low, high, counts = low[order], high[order], statistic.counts[order].astype(np.float64)
        power = _total(counts * _mean_square(low, high))
        return Density(low, high, counts, power, statistic.minimum, statistic.maximum)


def clipping_error(density: Density, threshold: float, form: ActivationForm = JUDGED_IN) -> float:
    """`squared_error` on the clip range that a threshold gives this tensor, in a form."""
    return range_error(density, clip_range(density.minimum, density.maximum, threshold), form)


def range_error(density: Density, clip: tuple[float, float], form: ActivationForm = JUDGED_IN) -> float:
    """`squared_error` on the clip range [lo, hi], in a form."""
    return squared_error(density, activation_parameters(form, *clip))


def squared_error(density: Density, parameters: QuantizationParameters) -> float:
    """The sum over all values x of (x − scale · (q − zero point))², where q is x's nearest integer in the type's range.

    The type's range is 0…255 for a uint8 zero point and −127…127 for an int8 one. In units of x².
    """
    scale = float(parameters.scale)
    zero = int(parameters.zero_point)
    smallest, largest = _INTEGERS[type(parameters.zero_point)]
    # All in steps of `scale`: the level to which each end of a piece goes, and how far from it that end is.
    low, high = density.low / scale, density.high / scale
    low_level = np.clip(np.rint(low), smallest - zero, largest - zero)
    high_level = np.clip(np.rint(high), smallest - zero, largest - zero)
    below, above = low - low_level, high - high_level
    crossed = high_level - low_level
    several = crossed > 0
    # From one level to the next the square integrates to 1/12; the two ends are cubes.
    across = (crossed / 12 + (above * above * above - below * below * below) / 3) / np.where(several, high - low, 1.0)
    return scale * scale * _total(density.counts * np.where(several, across, _mean_square(below, above)))


def sqnr_db(power: float, error: float) -> float:
    """The signal-to-quantization-noise ratio 10 log10(power ÷ error) in dB; at most 120, also for a power of 0.

    For people to read. Its last bits come from the C library's logarithm, so nothing that must be the same on every
    machine is decided by it.
    """
    return 10 * (math.log10(power) - math.log10(error)) if error > power * _AS_IF_EXACT else _MOST_DB


def _mean_square(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of x² for x uniform in [low, high]."""
    return (low * low + low * high + high * high) / 3


def _total(terms: NDArray[np.float64]) -> float:
    """Their sum from first to last. numpy's own sum groups its terms, and newer versions may group them otherwise."""
    return float(np.cumsum(terms)[-1]) if terms.size else 0.0
