import pytest

from quantfleet_domain.measurement.gpu_conditions import GpuConditions
from quantfleet_domain.measurement.quiet import Conditions, judge
from quantfleet_domain.reporting.facts import facts_of

QUIET = GpuConditions(sm_min_mhz=1511, sm_max_mhz=1590, temperature_max_c=70, power_max_w=69.0, other_processes=0)


def test_a_gpu_at_the_limits_is_quiet() -> None:
    assert judge(Conditions(gpu=QUIET)).quiet


@pytest.mark.parametrize(
    ("gpu", "reason"),
    [
        (GpuConditions(sm_min_mhz=1500, sm_max_mhz=1590), "drop of the GPU's clock: 5.7%, limit 5.0%"),
        (GpuConditions(slowdowns=("software power cap",)), "GPU clocks held down: software power cap"),
        (GpuConditions(), "nothing could be watched on the GPU"),
        (GpuConditions(other_processes=2), "other processes on the GPU: 2, limit 0"),
    ],
)
def test_each_disturbance_of_a_gpu_is_noise_with_its_limit(gpu: GpuConditions, reason: str) -> None:
    verdict = judge(Conditions(steal_share=0.0, gpu=gpu))
    assert (verdict.quiet, verdict.reasons) == (False, (reason,))


def test_a_gpu_adds_to_what_disturbs_its_host() -> None:
    noisy = Conditions(steal_share=0.5, gpu=GpuConditions(other_processes=1))
    assert len(judge(noisy).reasons) == 2


def test_a_report_names_the_gpus_conditions_and_leaves_out_what_is_not_known() -> None:
    facts = facts_of(Conditions(gpu=GpuConditions(sm_max_mhz=1590, slowdowns=("power brake",))))
    assert facts == {"gpu.sm_max_mhz": 1590, "gpu.slowdowns": ("power brake",)}
    assert facts_of(Conditions(gpu=QUIET)).keys() >= {"gpu.other_processes"}
    assert "gpu.slowdowns" not in facts_of(Conditions(gpu=QUIET))
