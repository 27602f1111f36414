import hashlib
import math

import numpy as np
import pytest

from quantfleet_domain.calibration.entropy import BINS, LEVELS, bins_to_keep, divergences, entropy_threshold, equal_bins


def plain_divergence(histogram, kept_bins):
    """The definition, bin by bin, with the library's logarithm."""
    histogram = [histogram[1], *histogram[1:]]
    total = sum(histogram)
    p = histogram[:kept_bins]
    p[-1] += sum(histogram[kept_bins:])
    levels = {}
    for j in range(kept_bins):
        levels.setdefault(j * LEVELS // kept_bins, []).append(j)
    q = [0.0] * kept_bins
    for members in levels.values():
        occupied = [j for j in members if histogram[j]]
        for j in occupied:
            q[j] = sum(histogram[k] for k in members) / len(occupied)
    result = (sum(q) - total) / total
    for here, there in zip(p, q, strict=True):
        if here and not there:
            return math.inf
        if here:
            result += here / total * math.log(here / there)
    return result


@pytest.mark.parametrize("occupancy", [1.0, 0.2])
def test_divergences_are_those_of_the_definition(occupancy):
    rng = np.random.default_rng(3)
    histogram = (rng.exponential(size=BINS) * 1e5 / np.arange(1, BINS + 1)).astype(np.int64) + 1
    histogram[rng.random(BINS) > occupancy] = 0
    histogram[-1] = 5
    found = divergences(histogram)
    assert found.shape == (BINS - LEVELS + 1,)
    for kept_bins in [*range(LEVELS, BINS, 97), BINS - 1, BINS]:
        assert found[kept_bins - LEVELS] == pytest.approx(plain_divergence(histogram.tolist(), kept_bins), abs=1e-11)


def test_the_first_bin_counts_as_the_second():
    histogram = np.arange(BINS, 0, -1)
    flooded = histogram.copy()
    flooded[0] = 10**9
    assert np.array_equal(divergences(histogram), divergences(flooded))


def test_counts_are_spread_proportionally_over_equal_bins(observe):
    """One value in [1, 1 + 1/256) and the maximum 4: bins are 1/512 wide, so that it meets two."""
    histogram = equal_bins(observe([1.0, 4.0]))
    assert {int(place): int(histogram[place]) for place in np.flatnonzero(histogram)} == {512: 128, 513: 128, 2047: 256}


def test_no_count_is_lost_in_spreading(observe):
    rng = np.random.default_rng(4)
    for array in (rng.normal(size=5000), rng.lognormal(sigma=4, size=5000), rng.uniform(5, 10, 5000), [0.0, 1e-45]):
        statistic = observe(array)
        histogram = equal_bins(statistic)
        assert histogram.sum() == 256 * statistic.elements
        assert histogram.min() >= 0


def test_the_equal_bins_are_near_a_histogram_of_the_raw_data(observe):
    array = np.random.default_rng(5).normal(size=200_000).astype(np.float32)
    statistic = observe(array)
    raw, _ = np.histogram(np.abs(array), BINS, (0, statistic.absmax))
    assert np.abs(np.cumsum(equal_bins(statistic)) / 256 - np.cumsum(raw)).max() < 0.002 * array.size


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0, 3.0, 6.0, 12.0])
def test_a_zero_heavy_relu6_tensor_does_not_collapse(observe, sigma):
    rng = np.random.default_rng(6)
    array = np.minimum(np.abs(rng.normal(0, sigma, 400_000)), 6)
    array[rng.random(array.size) < 0.75] = 0
    statistic = observe(array)
    assert entropy_threshold(statistic) >= 0.8 * statistic.absmax


@pytest.mark.parametrize("array", [np.linspace(5, 10, 5000), -np.linspace(5, 10, 5000), [0.5] * 1000 + [1.0] * 10])
def test_values_away_from_zero_are_not_all_clipped(observe, array):
    statistic = observe(array)
    assert entropy_threshold(statistic) >= 0.99 * statistic.absmax


def test_a_long_tail_is_clipped(observe):
    statistic = observe(np.random.default_rng(7).laplace(size=300_000))
    assert 0.3 < entropy_threshold(statistic) / statistic.absmax < 0.9


def test_divergences_too_close_to_tell_apart_take_the_larger_threshold():
    assert bins_to_keep(np.array([0.5, 0.25, 0.25 + 1e-14, np.inf])) == LEVELS + 2
    assert bins_to_keep(np.array([0.5, 0.25, 0.25 + 1e-9, np.inf])) == LEVELS + 1
    assert bins_to_keep(np.zeros(BINS - LEVELS + 1)) == BINS


def test_divergences_have_the_same_bits_on_every_machine():
    """A golden digest: it would change with a logarithm or a sum that depends on the processor."""
    found = divergences(np.arange(1, BINS + 1) * 7919 % 1009 * np.arange(BINS, 0, -1))
    assert (
        hashlib.sha256(found.astype("<f8").tobytes()).hexdigest()
        == "4e44fb1755bee8f70febb9e7b1161cda3ff4cb21fd031ce3959411db99604449"
    )


def test_the_threshold_does_not_depend_on_the_scale_of_the_data(observe):
    array = np.random.default_rng(8).laplace(size=50_000).astype(np.float32)
    small, large = observe(array * np.float32(2**-60)), observe(array * np.float32(2**60))
    assert entropy_threshold(small) * 2.0**120 == entropy_threshold(large)
