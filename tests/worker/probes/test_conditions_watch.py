"""What the watch makes of the kernel's counters: on made-up ones exactly, on this machine's really."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from quantfleet_domain.measurement.quiet import Conditions
from quantfleet_worker.probes.conditions import ConditionsWatch

Plant = Callable[[Mapping[str, str]], Path]

#           user nice system idle iowait irq softirq steal guest guest_nice
QUIET = (100, 0, 0, 100, 0, 0, 0, 0, 0, 0)


def counters(cpu0: tuple[int, ...], running: int, own_ticks: int) -> dict[str, str]:
    rows = [("cpu", (9,) * 10), ("cpu0", cpu0), ("cpu1", (999,) * 10), ("cpu10", (777,) * 10)]
    stat = "".join(f"{name} {' '.join(map(str, row))}\n" for name, row in rows)
    process = f"7 (a) b) {{state}} 1 1 1 0 -1 0 0 0 0 0 {own_ticks} 0 50 50 20 0 1 0 1"
    me = f"{os.getpid()} (watch) R 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1"
    return {
        "proc/stat": f"{stat}procs_running {running}\nprocs_blocked 0\n",
        "proc/7/stat": process.format(state="S"),
        "proc/7/task/7/stat": process.format(state="S"),
        "proc/7/task/8/stat": process.format(state="R"),
        f"proc/{os.getpid()}/stat": me,
        f"proc/{os.getpid()}/task/{os.getpid()}/stat": me,
    }


def clock(khz: int, throttles: int) -> dict[str, str]:
    return {
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": f"{khz}\n",
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": f"{throttles}\n",
        "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": f"{throttles * 100}\n",
    }


def test_shares_count_the_given_cores_and_leave_out_our_own_processes(plant: Plant) -> None:
    watch = ConditionsWatch([0], [7], plant(counters(QUIET, running=2, own_ticks=10) | clock(3_000_000, 5)))
    watch.sample()
    plant(counters((160, 0, 10, 125, 0, 0, 0, 5, 50, 0), running=5, own_ticks=50) | clock(2_000_000, 7))
    watch.sample()
    assert watch.conditions() == Conditions(
        steal_share=5 / 100,
        other_cpu_share=(60 + 10 - 40) / 100,
        run_queue=(0 + 3) / 2,  # this process and one thread of process 7 are ours
        frequency_min_khz=2_000_000,
        frequency_max_khz=3_000_000,
        throttle_count=2,
    )


def test_what_the_machine_does_not_tell_is_absent_and_not_zero(plant: Plant) -> None:
    watch = ConditionsWatch([0], [7], plant(counters(QUIET, running=1, own_ticks=0)))
    watch.sample()
    watch.sample()
    conditions = watch.conditions()
    assert (conditions.frequency_min_khz, conditions.frequency_max_khz, conditions.throttle_count) == (None, None, None)
    assert (conditions.steal_share, conditions.other_cpu_share) == (None, None)  # no time has passed


@pytest.mark.parametrize("samples", [0, 1])
def test_nothing_is_known_before_two_samples(plant: Plant, samples: int) -> None:
    watch = ConditionsWatch([0], [], plant(counters(QUIET, running=1, own_ticks=0)))
    for _ in range(samples):
        watch.sample()
    assert watch.conditions() == Conditions()


def test_a_process_of_ours_that_has_ended_does_not_disturb_the_watch(plant: Plant) -> None:
    watch = ConditionsWatch([0], [7, 8], plant(counters(QUIET, running=1, own_ticks=0)))
    watch.sample()
    watch.sample()
    assert watch.conditions().run_queue == 0


def test_a_busy_process_on_this_machine_is_seen_unless_it_is_ours() -> None:
    core = min(os.sched_getaffinity(0))
    spin = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"

    def told(pid: int) -> bool:
        """Whether the process makes the difference; what else runs just then may hide it from one look at both."""
        stranger, own = ConditionsWatch([core]), ConditionsWatch([core], [pid])
        for _ in range(7):
            stranger.sample()
            own.sample()
            time.sleep(0.2)
        seen, without = stranger.conditions(), own.conditions()
        assert seen.other_cpu_share is not None
        assert without.other_cpu_share is not None
        assert seen.run_queue is not None
        assert without.run_queue is not None
        return seen.other_cpu_share > without.other_cpu_share and seen.run_queue > without.run_queue

    with subprocess.Popen([sys.executable, "-c", spin]) as other:
        try:
            while Path(f"/proc/{other.pid}/stat").read_text().split()[13] == "0":  # it has not burnt a tick yet
                time.sleep(0.01)
            assert any(told(other.pid) for _ in range(10))
        finally:
            other.kill()


def test_steal_and_clock_are_those_of_the_pinned_core_and_load_that_of_the_machine(plant: Plant) -> None:
    def machine(cpu0: str, cpu1: str) -> dict[str, str]:
        stat = f"cpu0 {cpu0}\ncpu1 {cpu1}\nprocs_running 1\n"
        idle = {"sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "800000\n"}
        return counters(QUIET, running=1, own_ticks=0) | clock(3_000_000, 0) | idle | {"proc/stat": stat}

    watch = ConditionsWatch([0], [], plant(machine("0 0 0 0 0 0 0 0", "0 0 0 0 0 0 0 0")), domain=[0, 1])
    watch.sample()
    plant(machine("0 0 0 90 0 0 0 10", "50 0 0 50 0 0 0 0"))
    watch.sample()
    found = watch.conditions()
    assert (found.steal_share, found.other_cpu_share) == (10 / 100, 50 / 200)
    assert (found.frequency_min_khz, found.frequency_max_khz) == (3_000_000, 3_000_000)


def test_being_stopped_by_a_cpu_quota_is_throttling(plant: Plant) -> None:
    group = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}
    stat = "sys/fs/cgroup/cpu.stat"
    watch = ConditionsWatch(
        [0], [], plant(counters(QUIET, running=1, own_ticks=0) | group | {stat: "nr_periods 5\nnr_throttled 2\n"})
    )
    watch.sample()
    plant({stat: "nr_periods 9\nnr_throttled 5\n"})
    watch.sample()
    assert watch.conditions().throttle_count == 3
