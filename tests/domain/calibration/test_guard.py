import numpy as np
import pytest

from quantfleet_domain.calibration.calibrators import CALIBRATORS, HARM, Choice, calibrator_named, is_harmed
from quantfleet_domain.calibration.error import Density, clipping_error
from quantfleet_domain.calibration.guard import hurts
from quantfleet_domain.calibration.mse import mse_threshold
from quantfleet_domain.calibration.partial import Partial
from quantfleet_domain.calibration.scales import ScaleTable


@pytest.fixture(scope="module")
def heavy(observe):
    """A tail so heavy that the entropy search clips at a fifteenth of the range and loses eight decibels by it."""
    return observe(np.abs(np.random.default_rng(21).standard_t(2, 200_000)))


@pytest.fixture(scope="module")
def tame(observe):
    return observe(np.random.default_rng(22).laplace(size=200_000))


@pytest.fixture(scope="module")
def table_of(numerics, graph, heavy, tame):
    merged = Partial(numerics, frozenset({0}), {"relu": heavy, "input": tame, "logits": tame})

    def build(name, parameter=None):
        calibrator = calibrator_named(name, parameter)
        return ScaleTable.build(merged, graph, calibrator, manifest="m", preprocessing="p"), merged

    return build


def test_an_entropy_threshold_that_harms_is_replaced_by_that_of_mse(heavy):
    entropy = CALIBRATORS["entropy"]
    assert entropy.unguarded_threshold(heavy) < 0.1 * heavy.absmax
    assert entropy.choose(heavy) == Choice("mse", float(np.float32(mse_threshold(heavy))))
    assert entropy.threshold(heavy) > 0.5 * heavy.absmax


def test_an_entropy_threshold_that_does_no_harm_is_kept(tame):
    entropy = CALIBRATORS["entropy"]
    assert entropy.choose(tame) == Choice("entropy", entropy.unguarded_threshold(tame))
    assert entropy.threshold(tame) < tame.absmax


def test_a_calibrator_that_is_a_plain_rule_is_not_replaced(heavy):
    low = calibrator_named("percentile", 90.0)
    assert low.choose(heavy) == Choice("percentile", low.unguarded_threshold(heavy))
    assert is_harmed(Density.of(heavy), low.threshold(heavy))


@pytest.mark.parametrize("share", [0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05])
def test_harm_is_more_than_three_decibels_below_absmax(heavy, share):
    density = Density.of(heavy)
    worse = clipping_error(density, share * heavy.absmax) / clipping_error(density, heavy.absmax)
    assert is_harmed(density, share * heavy.absmax) == (worse > HARM)
    assert not is_harmed(density, heavy.absmax)


def test_next_to_no_error_is_no_harm_whatever_that_of_absmax(observe):
    """0 and 255 are exact in eight bits, so that anything is more than twice the error of absmax."""
    density = Density.of(observe([0.0, 255.0]))
    assert not is_harmed(density, 255 * (1 - 2.0**-20))
    assert is_harmed(density, 254.0)


def test_the_table_names_the_calibrator_whose_range_it_holds(table_of):
    table, _ = table_of("entropy")
    assert {row.tensor: row.calibrator for row in table.activations} == {
        "relu": "mse",
        "input": "entropy",
        "logits": "entropy",
    }
    assert table.header.calibrator == "entropy"


def test_the_report_learns_what_was_harmed_and_replaced(table_of):
    (hurt,) = hurts(*table_of("entropy"))
    assert (hurt.tensor, hurt.calibrator, hurt.replaced_by) == ("relu", "entropy", "mse")
    assert hurt.sqnr_db < hurt.absmax_sqnr_db - 3


def test_harm_that_stays_in_the_table_is_named_too_the_worst_first(table_of):
    found = hurts(*table_of("percentile", 99.0))
    assert {hurt.tensor for hurt in found} == {"relu", "input", "logits"}
    assert all((hurt.calibrator, hurt.replaced_by) == ("percentile", None) for hurt in found)
    falls = [hurt.absmax_sqnr_db - hurt.sqnr_db for hurt in found]
    assert falls == sorted(falls, reverse=True)
    assert min(falls) > 3


@pytest.mark.parametrize("name", ["absmax", "mse"])
def test_absmax_and_mse_harm_nothing(table_of, name):
    assert hurts(*table_of(name)) == ()
