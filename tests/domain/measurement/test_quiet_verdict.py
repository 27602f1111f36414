from dataclasses import replace

import pytest

from quantfleet_domain.measurement.quiet import LIMITS, Conditions, judge

CALM = Conditions(
    steal_share=0.0,
    other_cpu_share=0.01,
    run_queue=0.1,
    frequency_min_khz=2_450_000,
    frequency_max_khz=2_500_000,
    throttle_count=0,
)


def test_a_calm_machine_is_quiet() -> None:
    verdict = judge(CALM)
    assert verdict.quiet
    assert verdict.reasons == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"steal_share": 0.02}, "stolen by the hypervisor: 2.0%, limit 1.0%"),
        ({"other_cpu_share": 0.5}, "other processes: 50.0%, limit 5.0%"),
        ({"run_queue": 1.5}, "other runnable threads: 1.50, limit 0.50"),
        ({"frequency_min_khz": 2_000_000}, "drop of the clock: 20.0%, limit 10.0%"),
        ({"throttle_count": 3}, "throttling events: 3, limit 0"),
        ({"steal_share": float("nan")}, "stolen"),
    ],
)
def test_each_disturbance_is_named_with_its_limit(change: dict[str, float], reason: str) -> None:
    verdict = judge(replace(CALM, **change))  # type: ignore[arg-type] # fields by name
    assert not verdict.quiet
    assert len(verdict.reasons) == 1
    assert reason in verdict.reasons[0]


def test_a_value_at_its_limit_is_still_quiet() -> None:
    assert judge(replace(CALM, steal_share=LIMITS.steal_share, run_queue=LIMITS.run_queue)).quiet


def test_what_the_machine_does_not_tell_is_no_disturbance() -> None:
    assert judge(Conditions(other_cpu_share=0.0)).quiet


def test_quiet_is_not_claimed_where_nothing_could_be_watched() -> None:
    assert not judge(Conditions()).quiet


def test_several_disturbances_are_all_named() -> None:
    assert len(judge(replace(CALM, steal_share=0.5, throttle_count=1)).reasons) == 2
