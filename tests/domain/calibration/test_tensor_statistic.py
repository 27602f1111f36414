import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from quantfleet_domain.calibration.statistic import (
    StatisticAccumulator,
    bin_of,
    largest_magnitude,
    smallest_magnitude,
)
from quantfleet_domain.errors import ErrorCode, QuantfleetError

FLOAT32_MAX = float(np.finfo(np.float32).max)
DENORMAL = 1.401298464324817e-45

finite = arrays(np.float32, array_shapes(), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


@given(st.lists(finite, min_size=1, max_size=5))
def test_counts_and_extremes_are_those_of_the_raw_data(observe, samples):
    statistic = observe(*samples)
    everything = np.concatenate([sample.ravel() for sample in samples])
    bins, counts = np.unique(bin_of(everything), return_counts=True)
    assert statistic.bins.tolist() == bins.tolist()
    assert statistic.counts.tolist() == counts.tolist()
    assert statistic.elements == everything.size
    assert statistic.minimum == everything.min()
    assert statistic.maximum == everything.max()
    assert statistic.absmax == np.abs(everything).max()
    assert statistic.sample_minimum.tolist() == [sample.min() for sample in samples]
    assert statistic.sample_absmax.tolist() == [np.abs(sample).max() for sample in samples]


@given(finite)
def test_every_value_lies_between_the_edges_of_its_magnitude_bin(observe, array):
    statistic = observe(array)
    bins, counts = statistic.magnitudes()
    magnitudes = np.abs(array.astype(np.float64)).ravel()
    low, high = smallest_magnitude(bins), largest_magnitude(bins)
    inside = (magnitudes[:, None] >= low) & (magnitudes[:, None] <= high)
    assert inside.sum(axis=0).tolist() == counts.tolist()
    assert (high[bins >= 0x100] <= low[bins >= 0x100] * (1 + 2**-8)).all()


def test_negative_zero_counts_as_zero(observe):
    assert observe([0.0, -0.0, -0.0, -1.0, -DENORMAL]) == observe([0.0, 0.0, 0.0, -1.0, -DENORMAL])
    assert observe([-0.0]) == observe([0.0])
    assert not np.signbit(observe([-0.0]).sample_minimum).any()


def test_the_ends_of_float32_have_bins_of_their_own(observe):
    statistic = observe([DENORMAL, -DENORMAL, FLOAT32_MAX, -FLOAT32_MAX])
    assert statistic.counts.tolist() == [1, 1, 1, 1]
    assert (statistic.minimum, statistic.maximum) == (-FLOAT32_MAX, FLOAT32_MAX)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_an_error_that_names_tensor_and_sample(value):
    accumulator = StatisticAccumulator("conv_1")
    accumulator.observe(0, np.ones(3, np.float32), "a.jpg")
    with pytest.raises(QuantfleetError, match=r"conv_1.* 1 NaN or infinite .*b\.jpg") as caught:
        accumulator.observe(1, np.array([1, value, 2], np.float32), "b.jpg")
    assert caught.value.code is ErrorCode.SAMPLE_NOT_FINITE
    assert accumulator.statistic().elements == 3


def test_a_sample_observed_twice_is_an_error():
    accumulator = StatisticAccumulator("conv_1")
    accumulator.observe(7, np.ones(3, np.float32), "a.jpg")
    with pytest.raises(QuantfleetError, match="sample 7") as caught:
        accumulator.observe(7, np.ones(3, np.float32), "a.jpg")
    assert caught.value.code is ErrorCode.SAMPLES_OVERLAP


def test_an_empty_activation_adds_nothing(observe):
    statistic = observe([], [1.0, 2.0], [])
    assert statistic.samples.tolist() == [1]
    assert observe([]).absmax == 0.0


def test_another_type_than_float32_is_refused():
    with pytest.raises(TypeError, match="float64"):
        StatisticAccumulator("t").observe(0, np.ones(3), "a.jpg")


def test_strided_arrays_are_counted_like_dense_ones(observe):
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert observe(array[::2, ::3].T) == observe(array[::2, ::3].copy())


def test_arrays_longer_than_a_block_are_counted_whole(observe):
    array = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    bins, counts = np.unique(bin_of(array), return_counts=True)
    statistic = observe(array)
    assert np.array_equal(statistic.bins, bins)
    assert np.array_equal(statistic.counts, counts)


def test_a_statistic_cannot_be_changed(observe):
    with pytest.raises(ValueError, match="read-only"):
        observe([1.0]).counts[0] = 2
