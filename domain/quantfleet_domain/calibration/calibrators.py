"""How a threshold is chosen from a merged statistic: the registry of calibrators. Not for scales and zero points.

Everything here is in float64 by operations that give the same bits on every machine. A threshold is then rounded to the
nearest float32, the type of the tensor, so that every consumer of it starts from the same number.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.calibration.entropy import entropy_threshold
from quantfleet_domain.calibration.error import Density, clipping_error
from quantfleet_domain.calibration.forms import clip_range
from quantfleet_domain.calibration.mse import mse_threshold
from quantfleet_domain.calibration.statistic import TensorStatistic, largest_magnitude
from quantfleet_domain.errors import ErrorCode, QuantfleetError

HARM = 2.0
"""A threshold harms a tensor where its expected squared error is more than so many times that of absmax (3 dB)."""

# Where no more than this share of a tensor's power is lost, 90 dB, nothing is harmed.
_HARMLESS = 2.0**-30


def is_harmed(density: Density, threshold: float) -> bool:
    """Whether a threshold's squared error (in form `error.JUDGED_IN`) is over `HARM` times absmax's, and no trifle."""
    return clipping_error(density, threshold) > max(
        HARM * clipping_error(density, max(density.maximum, -density.minimum)), _HARMLESS * density.power
    )


@dataclass(frozen=True)
class Choice:
    """A threshold, float32, and the calibrator whose it is: another than the one asked where the guard replaced it."""

    calibrator: str
    threshold: float


@dataclass(frozen=True)
class Calibrator:
    """A way to choose a threshold. `parameter` is None for a calibrator that takes none.

    Where a `guarded` calibrator's threshold would harm the tensor (`is_harmed`), that of `mse` is taken instead.
    """

    name: str
    rule: Callable[[TensorStatistic, float | None], float]
    parameter: float | None = None
    guarded: bool = False

    def with_parameter(self, parameter: float | None) -> "Calibrator":
        """The same calibrator with another parameter (percentile: in (0, 100]); None keeps the default.

        Raises QuantfleetError(USAGE).
        """
        if parameter is None:
            return self
        if self.parameter is None:
            raise QuantfleetError(
                ErrorCode.USAGE, f"calibrator {self.name!r} takes no parameter", f"leave out {parameter!r}"
            )
        if not 0 < parameter <= 100:
            raise QuantfleetError(
                ErrorCode.USAGE, f"{self.name} {parameter!r} is not a percentage", "give one above 0 and up to 100"
            )
        return replace(self, parameter=float(parameter))

    def choose(self, statistic: TensorStatistic) -> Choice:
        """The threshold t in [0, absmax], and whose it is.

        A constant tensor has no distribution to clip: t is its magnitude, whatever the calibrator (0 for an all-zero
        tensor, and for one that was never observed).
        """
        threshold = self.unguarded_threshold(statistic)
        if self.guarded and statistic.minimum < statistic.maximum and is_harmed(Density.of(statistic), threshold):
            return Choice("mse", CALIBRATORS["mse"].unguarded_threshold(statistic))
        return Choice(self.name, threshold)

    def unguarded_threshold(self, statistic: TensorStatistic) -> float:
        """The calibrator's own threshold, a float32 value, harmful or not."""
        if statistic.minimum == statistic.maximum:
            return statistic.absmax
        return float(np.float32(self.rule(statistic, self.parameter)))

    def threshold(self, statistic: TensorStatistic) -> float:
        """The threshold of `choose`."""
        return self.choose(statistic).threshold

    def clip_range(self, statistic: TensorStatistic) -> tuple[float, float]:
        """[lo, hi] = [max(min, −t), min(max, t)], float32 values."""
        return clip_range(statistic.minimum, statistic.maximum, self.threshold(statistic))


def calibrator_named(name: str, parameter: float | None = None) -> Calibrator:
    """The calibrator of this name, with its default or the given parameter. Raises QuantfleetError(USAGE)."""
    found = CALIBRATORS.get(name)
    if found is None:
        raise QuantfleetError(
            ErrorCode.USAGE, f"there is no calibrator {name!r}", f"choose one of {', '.join(CALIBRATORS)}"
        )
    return found.with_parameter(parameter)


def _absmax(statistic: TensorStatistic, _: float | None) -> float:
    """The largest magnitude."""
    return statistic.absmax


def _avg(statistic: TensorStatistic, _: float | None) -> float:
    """The mean over samples of each sample's largest magnitude; `math.fsum` is exact, so no order can show."""
    return math.fsum(statistic.sample_absmax.tolist()) / statistic.samples.size


def _percentile(statistic: TensorStatistic, percentage: float | None) -> float:
    """The smallest upper edge of a bin at or below which at least `percentage` percent of the elements lie.

    Zeros count, unless they alone are that many: a tensor so sparse is taken without them, for its range would be 0.
    The percentage is taken as the decimal that it was written as, and compared in integers.
    """
    magnitudes, counts = statistic.magnitudes()
    place = _place_of(percentage, counts)
    if magnitudes[place] == 0 and magnitudes.size > 1:
        magnitudes = magnitudes[1:]
        place = _place_of(percentage, counts[1:])
    return min(float(largest_magnitude(magnitudes[place : place + 1])[0]), statistic.absmax)


def _place_of(percentage: float | None, counts: NDArray[np.int64]) -> int:
    covered = math.ceil(Fraction(repr(percentage)) / 100 * int(counts.sum()))
    return int(np.searchsorted(np.cumsum(counts), covered))


def _entropy(statistic: TensorStatistic, _: float | None) -> float:
    return entropy_threshold(statistic)


def _mse(statistic: TensorStatistic, _: float | None) -> float:
    return mse_threshold(statistic)


CALIBRATORS: Mapping[str, Calibrator] = MappingProxyType(
    {
        calibrator.name: calibrator
        for calibrator in (
            Calibrator("absmax", _absmax),
            Calibrator("avg", _avg),
            Calibrator("percentile", _percentile, 99.9999),
            Calibrator("entropy", _entropy, guarded=True),
            Calibrator("mse", _mse),
        )
    }
)

AUTO = "auto"
"""The best of these for each tensor. It takes more than one statistic, so it is not one of them: see `auto`."""

CALIBRATOR_NAMES = (*CALIBRATORS, AUTO)
"""What a user may ask for."""

EXTREMES_CALIBRATORS = ("absmax", "avg")
"""Those whose threshold follows from the extremes of the samples."""

DEFAULT_CALIBRATOR = "entropy"
"""What a job gets that names none: with biases corrected its outputs differ least from FP32's, or next to least, on
every model and engine at hand (docs/benchmarks/accuracy.md), and it is guarded where it would harm a tensor; `auto`
gains little over it and costs runs of its own."""
