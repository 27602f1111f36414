import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantfleet_domain.measurement.latency import Round
from quantfleet_domain.measurement.speedup import speedup, speedup_of_rounds

Blocks = list[list[int]]
block = st.lists(st.integers(1, 10**10), min_size=1, max_size=8)


@st.composite
def paired_blocks(draw: st.DrawFn) -> tuple[Blocks, Blocks]:
    n = draw(st.integers(2, 12))
    return draw(st.lists(block, min_size=n, max_size=n)), draw(st.lists(block, min_size=n, max_size=n))


@settings(deadline=None, max_examples=50)
@given(paired_blocks())
def test_the_interval_contains_the_value(pair: tuple[Blocks, Blocks]) -> None:
    value, low, high = speedup(*pair)
    assert low is not None
    assert high is not None
    assert low <= value <= high


@settings(deadline=None, max_examples=50)
@given(paired_blocks())
def test_a_variant_against_itself_is_exactly_one(pair: tuple[Blocks, Blocks]) -> None:
    assert speedup(pair[0], pair[0]) == (1.0, 1.0, 1.0)


@settings(deadline=None, max_examples=50)
@given(paired_blocks())
def test_the_same_samples_give_the_same_bits(pair: tuple[Blocks, Blocks]) -> None:
    assert speedup(*pair) == speedup(*pair)


def test_the_value_is_a_ratio_of_means_and_not_a_mean_of_ratios() -> None:
    assert speedup([[10], [100]], [[10], [10]]).value == 5.5
    assert speedup([[100], [10]], [[10], [100]]).value == 1.0


def test_a_drift_that_both_share_does_not_widen_the_interval() -> None:
    drift = np.linspace(1, 2, 20)
    baseline = [[int(2_000_000 * d)] * 5 for d in drift]
    variant = [[int(1_000_000 * d)] * 5 for d in drift]
    value, low, high = speedup(baseline, variant)
    assert (value, low, high) == pytest.approx((2, 2, 2), abs=1e-5)


def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        baseline = rng.normal(2e6, 2e5, (20, 10)).astype(int).tolist()
        variant = rng.normal(1e6, 1e5, (20, 10)).astype(int).tolist()
        _, low, high = speedup(baseline, variant)
        assert low is not None
        assert high is not None
        covered += low <= 2.0 <= high
    assert 85 <= covered <= 100


def test_one_block_gives_a_value_without_an_interval() -> None:
    assert speedup([[4, 4]], [[2, 2]]) == (2.0, None, None)


@pytest.mark.parametrize(("baseline", "variant"), [([], []), ([[1]], [[1], [2]]), ([[1], []], [[1], [2]])])
def test_blocks_that_do_not_pair_up_are_an_error(baseline: Blocks, variant: Blocks) -> None:
    with pytest.raises(ValueError, match="block"):
        speedup(baseline, variant)


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(1, 10**9)), min_size=1, max_size=8))
def test_rounds_give_what_blocks_of_their_means_give(means: list[tuple[int, int]]) -> None:
    baseline, variant = ([pair[side] for pair in means] for side in (0, 1))
    of_rounds = speedup_of_rounds(*([Round(mean, mean, mean, 3) for mean in side] for side in (baseline, variant)))
    assert of_rounds == speedup(*([[mean] * 3 for mean in side] for side in (baseline, variant)))


def test_rounds_that_do_not_pair_up_are_an_error() -> None:
    with pytest.raises(ValueError, match="1 and 0 rounds do not pair up"):
        speedup_of_rounds([Round(1, 1, 1, 1)], [])
