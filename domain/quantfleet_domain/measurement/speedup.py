"""How much faster one variant is than another, and how sure that is. Not for comparing two reports."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.measurement.latency import Round

RESAMPLES = 2000
CONFIDENCE = 0.95
_SEED = 20


class Speedup(NamedTuple):
    """A ratio of mean latencies (above 1: faster) and its interval; `low` and `high` are None for a single block."""

    value: float
    low: float | None
    high: float | None


def speedup(baseline_ns: Sequence[Sequence[int]], variant_ns: Sequence[Sequence[int]]) -> Speedup:
    """Mean latency of the baseline over the variant's, with a bootstrap interval over blocks.

    Both arguments are nanoseconds, block by block, from one interleaved measurement: block i of one was timed beside
    block i of the other, so whole pairs of blocks are drawn (2000 resamples, PCG64 with a fixed seed, the 2.5th and
    97.5th percentile of the resampled ratios; Efron and Tibshirani 1993, chapter 13). The interval is widened to
    contain the value where a resampled ratio is that skewed. The same samples give the same bits.

    Raises ValueError where the blocks do not pair up or one is empty.
    """
    if len(baseline_ns) != len(variant_ns) or not baseline_ns:
        raise ValueError(f"{len(baseline_ns)} and {len(variant_ns)} blocks do not pair up")
    if any(len(block) == 0 for block in (*baseline_ns, *variant_ns)):
        raise ValueError("a block has no samples")
    return _of_totals(_totals(baseline_ns), _totals(variant_ns))


def speedup_of_rounds(baseline: Sequence[Round], variant: Sequence[Round]) -> Speedup:
    """The same of two variants whose rounds were interleaved, which stand for the blocks.

    Raises ValueError where the rounds do not pair up.
    """
    if len(baseline) != len(variant) or not baseline:
        raise ValueError(f"{len(baseline)} and {len(variant)} rounds do not pair up")
    totals = (np.array([(item.mean_ns * item.runs, item.runs) for item in rounds]) for rounds in (baseline, variant))
    return _of_totals(*totals)


def _of_totals(baseline: NDArray[np.int64], variant: NDArray[np.int64]) -> Speedup:
    value = float(_ratio_of_means(baseline.sum(axis=0), variant.sum(axis=0)))
    blocks = len(baseline)
    if blocks == 1:
        return Speedup(value, None, None)
    drawn = np.random.Generator(np.random.PCG64(_SEED)).integers(0, blocks, size=(RESAMPLES, blocks))
    ratios = _ratio_of_means(baseline[drawn].sum(axis=1), variant[drawn].sum(axis=1))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = (float(bound) for bound in np.percentile(ratios, (tail, 100 - tail)))
    return Speedup(value, min(low, value), max(high, value))


def _totals(blocks: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Sum and number of samples of each block, shape (blocks, 2)."""
    return np.array([(sum(block), len(block)) for block in blocks], dtype=np.int64)


def _ratio_of_means(baseline: NDArray[np.int64], variant: NDArray[np.int64]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = baseline[..., 0] / baseline[..., 1]
    return means / (variant[..., 0] / variant[..., 1])
