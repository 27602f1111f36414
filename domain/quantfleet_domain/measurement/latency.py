"""What raw latency samples say: one summary of the pooled runs. Never an average of percentiles, never an estimate."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class LatencySummary:
    """Latency of one variant in milliseconds, over all its `runs`; `cov` (coefficient of variation) has no unit.

    A percentile is linearly interpolated between the closest ranks (Hyndman and Fan 1996, definition 7; numpy's
    `linear`). `cov` is the sample standard deviation (n - 1) over the mean, and None for a single run.
    """

    mean: float
    median: float
    min: float
    max: float
    p90: float
    p95: float
    p99: float
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


def throughput_per_s(summary: LatencySummary, batch: int) -> float:
    """Samples per second of one stream of runs: `batch` over the mean latency."""
    return batch * 1000 / summary.mean
