import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantfleet_domain.measurement.latency import Round, summarize, summarize_rounds, throughput_per_s

blocks_of_samples = st.lists(
    st.lists(st.integers(1, 10**12), min_size=1, max_size=30), min_size=1, max_size=12
)  # up to 1000 s a run


def test_a_summary_of_known_samples_is_what_the_definition_says() -> None:
    summary = summarize([[1_000_000, 2_000_000], [3_000_000, 4_000_000, 5_000_000]])
    assert (summary.mean, summary.median, summary.min, summary.max) == (3.0, 3.0, 1.0, 5.0)
    assert summary.p90 == pytest.approx(4.6)  # rank 0.9 × 4 = 3.6: 4 + 0.6 × (5 − 4)
    assert summary.p99 == pytest.approx(4.96)
    assert summary.cov == pytest.approx(2.5**0.5 / 3)
    assert summary.runs == 5


@settings(deadline=None)
@given(blocks_of_samples)
def test_percentiles_rise_between_min_and_max(blocks: list[list[int]]) -> None:
    s = summarize(blocks)
    rising = [value for value in (s.min, s.median, s.p90, s.p95, s.p99, s.max) if value is not None]
    assert len(rising) == 6
    assert rising == sorted(rising)
    assert s.min <= s.mean <= s.max


@settings(deadline=None)
@given(blocks_of_samples, st.randoms(use_true_random=False))
def test_the_order_of_blocks_and_runs_changes_no_bit(blocks: list[list[int]], rng: random.Random) -> None:
    shuffled = [rng.sample(block, len(block)) for block in blocks]
    rng.shuffle(shuffled)
    assert summarize(shuffled) == summarize(blocks)


def test_a_percentile_is_of_the_pool_not_an_average_over_blocks() -> None:
    calm, stormy = [1_000_000] * 99, [100_000_000]
    assert summarize([calm, stormy]).p95 == 1.0


def test_one_run_has_no_spread() -> None:
    assert summarize([[5]]).cov is None


@pytest.mark.parametrize("blocks", [[], [[]], [[0]], [[3, -1]]])
def test_no_samples_and_impossible_samples_are_errors(blocks: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="sample"):
        summarize(blocks)


def test_throughput_is_batch_over_mean() -> None:
    assert throughput_per_s(summarize([[20_000_000]]), batch=8) == 400.0


def test_rounds_pool_their_means_by_runs_and_tell_nothing_of_single_runs() -> None:
    summary = summarize_rounds(
        [Round(2_000_000, 1_000_000, 9_000_000, 100), Round(5_000_000, 3_000_000, 6_000_000, 50)]
    )
    assert (summary.mean, summary.min, summary.max, summary.runs) == (3.0, 1.0, 9.0, 150)
    assert (summary.median, summary.p90, summary.p95, summary.p99, summary.cov) == (None,) * 5
    assert throughput_per_s(summary, batch=3) == 1000


@pytest.mark.parametrize(
    "wrong", [[], [Round(5, 6, 7, 1)], [Round(8, 6, 7, 1)], [Round(0, 0, 7, 1)], [Round(6, 6, 6, 0)]]
)
def test_what_is_no_round_is_an_error(wrong: list[Round]) -> None:
    with pytest.raises(ValueError, match="round"):
        summarize_rounds(wrong)
