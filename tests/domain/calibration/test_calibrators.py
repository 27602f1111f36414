import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantfleet_domain.calibration.calibrators import CALIBRATORS, calibrator_named
from quantfleet_domain.calibration.statistic import bin_of
from quantfleet_domain.errors import ErrorCode, QuantfleetError

FLOAT32_MAX = float(np.finfo(np.float32).max)

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
positive = st.floats(2.0**-149, FLOAT32_MAX, width=32)
samples = st.lists(
    st.one_of(
        arrays(np.float32, st.integers(1, 30), elements=finite),
        arrays(np.float32, st.integers(1, 30), elements=positive),
        arrays(np.float32, st.integers(1, 30), elements=st.sampled_from([0.0, -0.0, 1.0, 6.0])),
    ),
    min_size=1,
    max_size=4,
)


@given(samples)
@example([np.float32([5, 10])])
@example([np.float32([-10, -5])])
@example([np.float32([FLOAT32_MAX, -FLOAT32_MAX])])
@example([np.float32([1e-45, 0])])
@example([np.float32([1e-45, 1e-44, 1])])
def test_every_threshold_is_a_float32_between_zero_and_absmax_and_its_range_is_inside_the_data(observe, samples):
    statistic = observe(*samples)
    for calibrator in CALIBRATORS.values():
        t = calibrator.threshold(statistic)
        lo, hi = calibrator.clip_range(statistic)
        assert 0 <= t <= statistic.absmax
        assert t == np.float32(t)
        assert statistic.minimum <= lo <= hi <= statistic.maximum
        assert lo == max(statistic.minimum, -t)
        assert hi == min(statistic.maximum, t)


@given(samples)
def test_absmax_is_the_largest_magnitude_of_the_raw_data(observe, samples):
    assert CALIBRATORS["absmax"].threshold(observe(*samples)) == max(np.abs(sample).max() for sample in samples)


@given(samples)
def test_avg_is_the_mean_of_the_samples_largest_magnitudes(observe, samples):
    peaks = [Fraction(float(np.abs(sample).max())) for sample in samples]
    assert CALIBRATORS["avg"].threshold(observe(*samples)) == np.float32(float(sum(peaks) / len(peaks)))


@given(
    arrays(np.float32, st.integers(2, 300), elements=finite).filter(lambda array: np.unique(array).size > 1),
    st.sampled_from([1.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0]),
)
def test_a_percentile_lies_in_the_bin_of_the_sorted_data(observe, array, percentage):
    magnitudes = np.sort(np.abs(array))
    if magnitudes[math.ceil(Fraction(str(percentage)) / 100 * array.size) - 1] < 2.0**-134:
        magnitudes = magnitudes[magnitudes >= 2.0**-134]  # the bin of zero covers that much by itself
    if magnitudes.size == 0:
        return
    oracle = magnitudes[math.ceil(Fraction(str(percentage)) / 100 * magnitudes.size) - 1]
    t = calibrator_named("percentile", percentage).threshold(observe(array))
    assert oracle <= t
    assert bin_of(np.float32([t, oracle])).tolist() == [bin_of(np.float32([oracle]))[0]] * 2


def test_a_percentage_is_taken_as_the_decimal_that_was_written(observe):
    """0.999 × 1000 rounds up to 999.0000000000001 in binary floating point; 999 of 1000 elements are 99.9 %."""
    assert calibrator_named("percentile", 99.9).threshold(observe([1.0] * 999 + [100.0])) < 1.01
    assert calibrator_named("percentile", 99.9).threshold(observe([1.0] * 998 + [100.0] * 2)) == 100.0


def test_a_tensor_that_zeros_alone_cover_keeps_a_range(observe):
    statistic = observe([0.0] * 100_000 + [1.0, 2.0, 4.0])
    assert CALIBRATORS["percentile"].threshold(statistic) == 4.0


@pytest.mark.parametrize("value", [3.0, -3.0, 0.0, -0.0, 1e-45, FLOAT32_MAX])
@pytest.mark.parametrize("name", CALIBRATORS)
def test_a_constant_tensor_keeps_its_magnitude(observe, name, value):
    statistic = observe([value] * 4, [value])
    constant = float(np.float32(value))
    assert CALIBRATORS[name].threshold(statistic) == abs(constant)
    assert CALIBRATORS[name].clip_range(statistic) == (constant, constant)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_a_tensor_that_was_never_observed_has_the_range_zero(observe, name):
    assert CALIBRATORS[name].clip_range(observe()) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "parameter", "message"),
    [
        ("entropie", None, "no calibrator 'entropie' .*absmax, avg, percentile, entropy"),
        ("absmax", 3.0, "takes no parameter"),
        ("percentile", 0.0, "not a percentage"),
        ("percentile", 100.1, "not a percentage"),
        ("percentile", math.nan, "not a percentage"),
    ],
)
def test_a_wrong_calibrator_is_a_clear_error(name, parameter, message):
    with pytest.raises(QuantfleetError, match=message) as caught:
        calibrator_named(name, parameter)
    assert caught.value.code is ErrorCode.USAGE


def test_the_percentile_is_99_99_unless_given():
    assert calibrator_named("percentile").parameter == 99.9999
    assert calibrator_named("percentile", 99.9).parameter == 99.9
    assert CALIBRATORS["percentile"].parameter == 99.9999
