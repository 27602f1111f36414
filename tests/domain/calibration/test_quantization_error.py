import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantfleet_domain.calibration.error import Density, clipping_error, sqnr_db, squared_error
from quantfleet_domain.calibration.forms import ActivationForm, activation_parameters, clip_range

FORMS = list(ActivationForm)
_BOUNDS = {ActivationForm.U8_AFFINE: (0, 255), ActivationForm.S8_SYMMETRIC: (-127, 127)}

values = st.floats(-(2.0**100), 2.0**100, width=32)


def really_lost(array, parameters, form):
    """The squared errors of quantizing these very values, summed."""
    array, scale, zero = np.asarray(array, np.float64), float(parameters.scale), int(parameters.zero_point)
    integers = np.clip(np.rint(array / scale) + zero, *_BOUNDS[form])
    return float((np.square(array - scale * (integers - zero))).sum())


def tensors():
    rng = np.random.default_rng(11)
    relu = np.maximum(rng.normal(size=200_000), 0)
    return {
        "normal": rng.normal(size=200_000),
        "rectified": relu,
        "relu6": np.minimum(3 * relu, 6),
        "heavy": rng.standard_t(2, size=200_000),
        "negative": -rng.exponential(size=200_000) - 1,
        "lopsided": rng.normal(size=200_000) + np.where(rng.random(200_000) < 0.1, 8, 0),
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("share", [1.0, 0.7, 0.2])
@pytest.mark.parametrize("name", tensors())
def test_the_expected_error_is_that_of_quantizing_the_values(observe, name, share, form):
    array = tensors()[name].astype(np.float32)
    statistic = observe(array)
    clip = clip_range(statistic.minimum, statistic.maximum, share * statistic.absmax)
    parameters = activation_parameters(form, *clip)
    expected = squared_error(Density.of(statistic), parameters)
    assert expected == pytest.approx(really_lost(array, parameters, form), rel=0.01)


@given(arrays(np.float32, st.integers(1, 20), elements=values), st.floats(0.01, 1.0), st.sampled_from(FORMS))
def test_the_error_of_a_piece_is_its_integral(observe, array, share, form):
    """Each piece, cut into many points, by quantizing the points."""
    statistic = observe(array)
    density = Density.of(statistic)
    clip = clip_range(statistic.minimum, statistic.maximum, share * statistic.absmax)
    parameters = activation_parameters(form, *clip)
    offsets = (np.arange(2000) + 0.5) / 2000
    points = density.low[:, None] + (density.high - density.low)[:, None] * offsets
    numeric = sum(
        count * really_lost(row, parameters, form) / row.size for count, row in zip(density.counts, points, strict=True)
    )
    assert squared_error(density, parameters) == pytest.approx(numeric, rel=1e-3, abs=1e-14 * density.power)


@given(arrays(np.float32, st.integers(1, 30), elements=values))
def test_pieces_hold_the_values_and_their_power(observe, array):
    density = Density.of(observe(array))
    assert density.counts.sum() == array.size
    assert (density.low[1:] >= density.high[:-1]).all()
    assert density.low[0] == array.min() == density.minimum
    assert density.high[-1] == array.max() == density.maximum
    assert density.power == pytest.approx(float(np.square(array, dtype=np.float64).sum()), rel=0.01, abs=1e-70)


def test_a_uniform_tensor_has_the_ratio_of_eight_bits(observe):
    """Σx² = 1/3 and an error of step² / 12, with 255 steps: 20 log10(255) + 10 log10(4) = 54.15 dB; 127 steps, 48.1."""
    density = Density.of(observe(np.linspace(0, 1, 500_001)))
    decibels = [sqnr_db(density.power, clipping_error(density, 1.0, form)) for form in FORMS]
    assert decibels == pytest.approx([20 * math.log10(255) + 6.02, 20 * math.log10(127) + 6.02], abs=0.05)


def test_zeros_and_a_tensor_never_observed_lose_nothing(observe):
    for statistic in (observe(), observe([0.0] * 100)):
        density = Density.of(statistic)
        assert clipping_error(density, 1.0) == 0
        assert sqnr_db(density.power, 0.0) == 120


def test_errors_have_the_same_bits_on_every_machine(observe):
    """A golden digest: it would change with a sum whose order depends on the processor, or with a fused operation."""
    bits = (np.arange(40_000, dtype=np.uint32) * np.uint32(2654435761) % np.uint32(0x42000000)).astype(np.uint32)
    array = bits.view(np.float32) * np.where(np.arange(40_000) % 3 == 0, -1, 1).astype(np.float32)
    density = Density.of(observe(array))
    errors = [clipping_error(density, 32 * share / 17, form) for share in range(1, 18) for form in FORMS]
    digest = hashlib.sha256(np.array(errors, "<f8").tobytes()).hexdigest()
    assert digest == "45091fc1703fcc518aedbdbb92a65fe242041e892dfe2eb86d7991bb5efc7b71"
