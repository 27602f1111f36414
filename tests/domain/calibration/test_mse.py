import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantfleet_domain.calibration.error import Density, clipping_error
from quantfleet_domain.calibration.mse import mse_threshold

values = st.floats(-(2.0**100), 2.0**100, width=32)


def tensors():
    rng = np.random.default_rng(12)
    relu = np.maximum(rng.normal(size=100_000), 0)
    return {
        "uniform": rng.uniform(-1, 1, 100_000),
        "normal": rng.normal(size=100_000),
        "laplace": rng.laplace(size=100_000),
        "relu6": np.minimum(np.maximum(4 * rng.normal(size=100_000), 0), 6),
        "rectified": relu,
        "one in a hundred thousand": np.append(relu, 400),
        "heavy": rng.lognormal(sigma=3, size=100_000),
        "negative": -rng.exponential(size=100_000),
        "lopsided": np.where(relu > 0, relu, -0.05 * rng.random(100_000)),
        "far from zero": rng.uniform(5, 10, 100_000),
        "millions around one in ten thousand": np.append(rng.normal(size=1_000_000) / 10_000, 1),
    }


@pytest.mark.parametrize("name", tensors())
def test_no_threshold_of_a_fine_sweep_is_better_by_a_thousandth(observe, name):
    statistic = observe(tensors()[name])
    density = Density.of(statistic)
    found = clipping_error(density, mse_threshold(statistic))
    sweep = [clipping_error(density, statistic.absmax * 0.995**step) for step in range(1000)]
    assert found <= 1.001 * min(sweep)


@given(arrays(np.float32, st.integers(1, 60), elements=values))
def test_it_is_never_worse_than_the_whole_range(observe, array):
    statistic = observe(array)
    density = Density.of(statistic)
    t = mse_threshold(statistic)
    assert 0 <= t <= statistic.absmax
    whole = clipping_error(density, statistic.absmax)
    assert clipping_error(density, t) <= whole + density.power * 2.0**-40


def test_zeros_do_not_change_it(observe):
    array = np.random.default_rng(13).exponential(size=20_000)
    with_zeros = np.concatenate((array, np.zeros(2_000_000)))
    assert mse_threshold(observe(with_zeros)) == mse_threshold(observe(array))


def test_it_does_not_depend_on_the_scale_of_the_data(observe):
    array = np.random.default_rng(14).laplace(size=50_000).astype(np.float32)
    small, large = observe(array * np.float32(2**-60)), observe(array * np.float32(2**60))
    assert mse_threshold(small) * 2.0**120 == mse_threshold(large)


def test_a_spike_at_the_end_of_the_range_is_not_clipped(observe):
    """Half of a saturated ReLU6's values are 6 exactly."""
    array = np.concatenate((np.random.default_rng(15).uniform(0, 6, 10_000), np.full(10_000, 6.0)))
    assert mse_threshold(observe(array)) == 6.0


def test_where_all_costs_are_equal_nothing_is_clipped(observe):
    """What is lost of the small values is below the resolution of the comparison, so all thresholds above 1 tie."""
    statistic = observe([1.0] * 255 + [1e-9] * 10)
    assert mse_threshold(statistic) == 1.0


def test_a_tensor_of_zeros_has_the_threshold_zero(observe):
    assert mse_threshold(observe([0.0, 0.0])) == 0.0
    assert mse_threshold(observe()) == 0.0
