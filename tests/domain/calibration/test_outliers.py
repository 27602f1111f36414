import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from quantfleet_domain.calibration.outliers import FALL, FEW, FEWEST_SAMPLES, Outlier, drivers, outliers
from quantfleet_domain.calibration.partial import Partial

magnitudes = st.lists(st.floats(0, 2.0**60, width=32), min_size=1, max_size=60)


def samples_of(peaks):
    return [[peak, -0.5 * peak] for peak in peaks]


@given(magnitudes)
def test_drivers_are_few_and_without_them_the_range_falls(observe, peaks):
    found = list(drivers(observe(*samples_of(peaks))))
    indices = [index for index, _, _ in found]
    assert len(found) <= max(1, FEW * len(peaks))
    rest = [float(np.float32(peak)) for index, peak in enumerate(peaks) if index not in indices]
    for index, absmax, without in found:
        assert absmax == np.float32(peaks[index])
        assert without == max(rest) < (1 - FALL) * max(peaks)
        assert absmax >= without


@given(magnitudes.filter(lambda peaks: len(peaks) >= FEWEST_SAMPLES))
def test_where_nothing_drives_the_range_it_holds_without_any_few_samples(observe, peaks):
    if not list(drivers(observe(*samples_of(peaks)))):
        few = max(1, int(FEW * len(peaks)))
        assert sorted(peaks, reverse=True)[few] >= (1 - FALL) * max(peaks) * (1 - 1e-6)


@given(magnitudes, st.randoms())
def test_the_order_of_samples_does_not_matter(observe, peaks, random):
    order = list(range(len(peaks)))
    random.shuffle(order)
    found = {absmax for _, absmax, _ in drivers(observe(*samples_of(peaks)))}
    assert {absmax for _, absmax, _ in drivers(observe(*samples_of([peaks[i] for i in order])))} == found


def test_a_sample_that_stretches_the_range_alone_is_found(observe):
    assert list(drivers(observe(*samples_of([1.0] * 30 + [5.0] + [1.1] * 9)))) == [(30, 5.0, float(np.float32(1.1)))]


def test_two_that_would_hide_each_other_are_both_found(observe):
    assert [index for index, _, _ in drivers(observe(*samples_of([5.0] + [1.0] * 38 + [4.9])))] == [0, 39]


def test_many_large_samples_are_no_outliers(observe):
    assert not list(drivers(observe(*samples_of([5.0] * 10 + [1.0] * 30))))


def test_of_too_few_samples_none_stands_out(observe):
    assert not list(drivers(observe(*samples_of([1.0] * (FEWEST_SAMPLES - 2) + [100.0]))))
    assert not list(drivers(observe()))


def test_samples_are_ranked_by_how_many_tensors_they_drive(observe, numerics):
    ones = [1.0] * 17
    tensors = {
        "a": observe(*samples_of([2.0, *ones, 1.0, 1.0])),
        "b": observe(*samples_of([4.0, *ones, 1.0, 1.0])),
        "c": observe(*samples_of([1.0, *ones, 8.0, 1.0])),
        "d": observe(*samples_of([1.0, *ones, 1.0, 16.0])),
        "e": observe(*samples_of([1.0, *ones, 1.0, 1.0])),
    }
    merged = Partial(numerics, frozenset(range(20)), tensors)
    ranked = (
        Outlier(0, 2, "b", 4.0, 1.0),
        Outlier(19, 1, "d", 16.0, 1.0),
        Outlier(18, 1, "c", 8.0, 1.0),
    )
    assert outliers(merged) == ranked
    assert outliers(merged, most=2) == ranked[:2]
