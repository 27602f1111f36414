"""What raw latency samples say: one summary of the pooled runs. Never an average of percentiles, never an estimate."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

_NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class LatencySummary:
    """Latency of one variant in milliseconds, over all its `runs`; `cov` (coefficient of variation) has no unit.

    A percentile is linearly interpolated between the closest ranks (Hyndman and Fan 1996, definition 7; numpy's
    `linear`). `cov` is the sample standard deviation (n - 1) over the mean, and None for a single run. Median,
    percentiles and `cov` are None where a tool measured that gives no single latency.
    """

    mean: float
    median: float | None
    min: float
    max: float
    p90: float | None
    p95: float | None
    p99: float | None
    cov: float | None
    runs: int


def summarize(blocks_ns: Iterable[Iterable[int]]) -> LatencySummary:
    """Summarize samples in nanoseconds, given block by block; the blocks are pooled first, so their order is nothing.

    Raises ValueError where there is no sample, or one that is not positive.
    """
    pooled = sorted(int(sample) for block in blocks_ns for sample in block)
    if not pooled:
        raise ValueError("there are no samples to summarize")
    if pooled[0] <= 0:
        raise ValueError(f"a sample is {pooled[0]} ns: a latency is positive")
    samples = np.array(pooled, dtype=np.float64)
    mean_ns = sum(pooled) / len(pooled)
    median, p90, p95, p99 = (float(value) for value in np.percentile(samples, (50, 90, 95, 99), method="linear"))
    return LatencySummary(
        mean=mean_ns / _NS_PER_MS,
        median=median / _NS_PER_MS,
        min=pooled[0] / _NS_PER_MS,
        max=pooled[-1] / _NS_PER_MS,
        p90=p90 / _NS_PER_MS,
        p95=p95 / _NS_PER_MS,
        p99=p99 / _NS_PER_MS,
        cov=float(np.std(samples, ddof=1)) / mean_ns if len(pooled) > 1 else None,
        runs=len(pooled),
    )


@dataclass(frozen=True)
class Round:
    """What a tool said of `runs` timed runs in a row, which it does not give one by one; nanoseconds."""

    mean_ns: int
    min_ns: int
    max_ns: int
    runs: int


def summarize_rounds(rounds: Sequence[Round]) -> LatencySummary:
    """Pool the rounds of one variant: the mean of their means weighted by runs, the least and the greatest of all.

    What needs every latency (median, percentiles, `cov`) is None. Raises ValueError where there is no round, or one
    whose mean is not between its positive extremes.
    """
    if not rounds:
        raise ValueError("there are no rounds to summarize")
    for item in rounds:
        if not 0 < item.min_ns <= item.mean_ns <= item.max_ns or item.runs < 1:
            raise ValueError(f"{item} is no round: 0 < min <= mean <= max of at least one run")
    runs = sum(item.runs for item in rounds)
    return LatencySummary(
        mean=sum(item.mean_ns * item.runs for item in rounds) / runs / _NS_PER_MS,
        median=None,
        min=min(item.min_ns for item in rounds) / _NS_PER_MS,
        max=max(item.max_ns for item in rounds) / _NS_PER_MS,
        p90=None,
        p95=None,
        p99=None,
        cov=None,
        runs=runs,
    )


def throughput_per_s(summary: LatencySummary, batch: int) -> float:
    """Samples per second of one stream of runs: `batch` over the mean latency."""
    return batch * 1000 / summary.mean
