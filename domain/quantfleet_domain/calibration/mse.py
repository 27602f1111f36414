"""The mse calibrator's search for the threshold of least squared quantization error. Not for the error (see `error`).

The aim is that of PaddleSlim's `mse` and of OpenVINO's and NVIDIA's calibrators of that name; the search is our own.
"""

import numpy as np

from quantfleet_domain.calibration.error import Density, clipping_error
from quantfleet_domain.calibration.statistic import TensorStatistic

# The shares of absmax that are tried first: 16 in each octave, evenly. No tensor has so many elements that it would pay
# to clip at less than the last of them.
_OCTAVES = 24
_SHARES = [step / 32 / 2.0**octave for octave in range(_OCTAVES) for step in range(32, 16, -1)]
_REFINEMENT = 16
# Errors are compared in steps of 2^-40 of the tensor's power, far above the rounding of their sums.
_RESOLUTION = 2.0**40
# With its zero point rounded, a range may reach beyond its threshold by half a step, t / 255.
_REACH = 1 + 1 / 128


def mse_threshold(statistic: TensorStatistic) -> float:
    """The t in (0, absmax] with the least expected squared error in form `error.JUDGED_IN`, of equal ones the largest.

    Sixteen thresholds an octave are tried from absmax downwards until what is clipped costs more by itself than the
    best so far; then sixteen on each side of the best, which puts the result within 1/256 of its octave, as wide as
    a bin of the statistic. Zeros do not matter here: they are always represented exactly.
    """
    density = Density.of(statistic)
    absmax = statistic.absmax
    if density.power == 0:
        return absmax
    nearest = np.maximum(np.maximum(density.low, -density.high), 0.0)

    def cost(share: float) -> float:
        return float(np.rint(clipping_error(density, share * absmax) / density.power * _RESOLUTION))

    def clipped(share: float) -> float:
        beyond = np.maximum(nearest - share * absmax * _REACH, 0.0)
        return float(np.cumsum(beyond * beyond * density.counts)[-1] / density.power * _RESOLUTION)

    costs = [cost(1.0)]
    for share in _SHARES[1:]:
        if clipped(share) > min(costs):
            break
        costs.append(cost(share))
    # `index` and `min` take the first of equal costs, and shares are in decreasing order throughout.
    best = costs.index(min(costs))
    middle, above, below = _SHARES[best], _SHARES[max(best - 1, 0)], _SHARES[best + 1]
    parts = range(_REFINEMENT)
    finer = [above - (above - middle) * part / _REFINEMENT for part in parts if above > middle]
    finer += [middle - (middle - below) * part / _REFINEMENT for part in parts]
    return absmax * min(finer, key=cost)
