"""What samples of a GPU come to. Without a driver there are none, and nothing is claimed."""

from dataclasses import replace

import pynvml

from quantfleet_domain.measurement.gpu_conditions import GpuConditions
from quantfleet_worker.probes.gpu_conditions import SLOWDOWNS, GpuConditionsWatch, Sample, clocks_mhz, summarized

FAST = Sample(sm_mhz=1590, memory_mhz=5001, temperature_c=60, power_mw=68_500, reasons=0, users=(7,))


def test_extremes_are_taken_over_all_samples() -> None:
    slow = Sample(sm_mhz=1200, memory_mhz=5000, temperature_c=71, power_mw=70_100, reasons=0, users=(7,))
    assert summarized([FAST, slow], {7}, namespaced=False) == GpuConditions(
        sm_min_mhz=1200,
        sm_max_mhz=1590,
        memory_min_mhz=5000,
        memory_max_mhz=5001,
        temperature_max_c=71,
        power_max_w=70.1,
        slowdowns=(),
        other_processes=0,
    )


def test_slowdowns_of_any_sample_are_named_and_idleness_and_users_clocks_are_not() -> None:
    idle = replace(FAST, reasons=pynvml.nvmlClocksEventReasonGpuIdle | pynvml.nvmlClocksEventReasonUserDefinedClocks)
    capped = replace(FAST, reasons=pynvml.nvmlClocksEventReasonSwPowerCap)
    hot = replace(FAST, reasons=pynvml.nvmlClocksEventReasonHwThermalSlowdown)
    found = summarized([idle, capped, hot, FAST], {7}, namespaced=False)
    assert found.slowdowns == ("software power cap", "hardware thermal slowdown")
    assert summarized([idle, FAST], {7}, namespaced=False).slowdowns == ()


def test_the_bits_of_slowdowns_are_those_of_nvml() -> None:
    names = ["SwPowerCap", "HwSlowdown", "SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown"]
    names += ["BoardLimit", "Reliability"]
    assert list(SLOWDOWNS) == [getattr(pynvml, f"nvmlClocksThrottleReason{name}") for name in names]


def test_processes_that_are_not_ours_are_counted_at_their_most() -> None:
    busy = replace(FAST, users=(7, 8, 9, 9))
    assert summarized([FAST, busy], {7}, namespaced=False).other_processes == 2
    assert summarized([FAST, busy], {7, 8, 9}, namespaced=False).other_processes == 0


def test_in_a_container_one_process_of_a_strange_id_is_taken_for_ours() -> None:
    assert summarized([replace(FAST, users=(40_001,))], {7}, namespaced=True).other_processes == 0
    assert summarized([replace(FAST, users=(40_001, 40_002))], {7}, namespaced=True).other_processes == 1


def test_what_the_driver_does_not_tell_is_not_claimed() -> None:
    mute = Sample(None, None, None, None, None, None)
    assert summarized([mute, mute], {7}, namespaced=False) == GpuConditions()
    assert summarized([], {7}, namespaced=False) == GpuConditions()


def test_without_a_driver_a_watch_sees_nothing() -> None:
    watch = GpuConditionsWatch("GPU-00000000-0000-0000-0000-000000000000")
    watch.sample()
    assert watch.conditions() == GpuConditions()
    assert clocks_mhz("GPU-00000000-0000-0000-0000-000000000000") == {}
