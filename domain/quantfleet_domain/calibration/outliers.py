"""Which samples stretch the ranges of a model's tensors, for the report. Not for leaving any of them out."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from quantfleet_domain.calibration.partial import Partial
from quantfleet_domain.calibration.statistic import TensorStatistic

FALL = 0.1
"""A few samples drive a tensor's range if its absmax would fall by more than this share without them."""

FEW = 0.05
"""A few samples are at most this share of all, or one."""

FEWEST_SAMPLES = 10
"""Of fewer samples than this, none stands out."""


@dataclass(frozen=True)
class Outlier:
    """A sample of the manifest that drives the range of `tensors` tensors, alone or with few others.

    In `worst_tensor` it does so most: its largest magnitude there is `absmax`, and `without` is the largest magnitude
    of all samples that do not drive that tensor's range.
    """

    sample: int
    tensors: int
    worst_tensor: str
    absmax: float
    without: float


def outliers(merged: Partial, most: int = 10) -> tuple[Outlier, ...]:
    """The samples that drive most tensors' ranges, at most `most`; of equals, those that stretch one furthest first.

    Tensors that share their values, such as a ReLU's output and a concatenation of it, count as several.
    """
    found: dict[int, list[tuple[float, str, float, float]]] = {}
    for name in sorted(merged.tensors):
        for sample, absmax, without in drivers(merged.tensors[name]):
            found.setdefault(sample, []).append((without / absmax, name, absmax, without))
    result = [Outlier(sample, len(rows), *min(rows)[1:]) for sample, rows in found.items()]
    result.sort(key=lambda outlier: (-outlier.tensors, outlier.without / outlier.absmax, outlier.sample))
    return tuple(result[:most])


def drivers(statistic: TensorStatistic) -> Iterator[tuple[int, float, float]]:
    """(sample, its absmax, the absmax of all that are no drivers) of the samples that drive a tensor's range.

    They are the fewest samples of largest magnitude without which absmax would fall by more than `FALL`, if they are
    few. A group, because two photographs of one glaring lamp would otherwise hide each other.
    """
    peaks = statistic.sample_absmax.astype(np.float64)
    if peaks.size < FEWEST_SAMPLES:
        return
    order = np.lexsort((statistic.samples, -peaks))
    few = max(1, int(FEW * peaks.size))
    for count in range(1, few + 1):
        without = float(peaks[order[count]])
        if without < (1 - FALL) * peaks[order[0]]:
            for place in order[:count]:
                yield int(statistic.samples[place]), float(peaks[place]), without
            return
