"""The processor, memory and limits that the probes read, on this machine and on others' file systems."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from quantfleet_worker.probes.boot import boot_id
from quantfleet_worker.probes.cgroups import cpu_quota, memory_limit_bytes
from quantfleet_worker.probes.cpu import cpu_facts, facts_of, sve_bits, usable_cores

Plant = Callable[[Mapping[str, str]], Path]

XEON = """processor\t: {n}
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz
flags\t\t: fpu sse4_2 fma avx avx2 f16c avx512f avx512dq avx512bw avx512vl avx512_vnni ht

"""
ARM = """processor\t: {n}
BogoMIPS\t: 243.75
Features\t: fp asimd fphp asimddp i8mm atomics
CPU implementer\t: 0x41
CPU part\t: 0xd0c

"""


def machine(cpu: str, threads: int, per_core: int = 1, per_socket: int = 64) -> dict[str, str]:
    files = {
        "proc/cpuinfo": "".join(cpu.format(n=n) for n in range(threads)),
        "proc/meminfo": "MemTotal:       16000000 kB\nMemFree:        1 kB\n",
    }
    for n in range(threads):
        topology = f"sys/devices/system/cpu/cpu{n}/topology"
        files[f"{topology}/core_id"] = f"{n // per_core % per_socket}\n"
        files[f"{topology}/physical_package_id"] = f"{n // per_core // per_socket}\n"
    return files


def test_this_machine_tells_what_it_is() -> None:
    facts = cpu_facts(None, "not run")
    assert facts.model_name
    assert facts.vendor
    assert facts.architecture == os.uname().machine
    assert facts.isa
    assert facts.isa == tuple(sorted(facts.isa))
    assert 1 <= facts.sockets <= facts.physical_cores <= facts.logical_cores
    assert facts.logical_cores >= len(os.sched_getaffinity(0))
    assert facts.memory_bytes > 2**28
    assert (facts.vnni, facts.vnni_missing) == (None, "not run")


def test_sockets_cores_and_threads_are_told_apart(plant: Plant) -> None:
    facts = cpu_facts(None, "", plant(machine(XEON, threads=8, per_core=2, per_socket=2)))
    assert (facts.sockets, facts.physical_cores, facts.logical_cores) == (2, 4, 8)
    assert facts.model_name == "Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz"
    assert facts.vendor == "GenuineIntel"
    assert facts.memory_bytes == 16_000_000 * 1024
    assert (facts.max_khz, facts.governor) == (None, None)
    assert "avx512_vnni" in facts.isa
    assert "ht" not in facts.isa


def test_an_arm_processor_is_named_by_its_implementer_and_part(plant: Plant) -> None:
    files = machine(ARM, threads=4) | {
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "2400000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
    }
    facts = cpu_facts(None, "", plant(files))
    assert (facts.vendor, facts.model_name) == ("ARM", "ARM Neoverse-N1")
    assert facts.isa == ("asimd", "asimddp", "fphp", "i8mm")
    assert (facts.max_khz, facts.governor) == (2_400_000, "performance")


def test_an_arm_core_that_nobody_named_keeps_its_number(plant: Plant) -> None:
    facts = cpu_facts(None, "", plant(machine(ARM.replace("0xd0c", "0xfff"), threads=2)))
    assert facts.model_name == "ARM part 0xfff"


def test_cores_that_differ_are_counted_apart_and_promise_only_what_all_of_them_have() -> None:
    little = ARM.replace("0xd0c", "0xd05").replace("i8mm ", "")
    texts = {
        "proc/cpuinfo": "".join(little.format(n=n) for n in range(4)) + ARM.replace("0xd0c", "0xd0b").format(n=4),
        "proc/meminfo": "MemTotal: 8000000 kB\n",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1800000\n",
        "sys/devices/system/cpu/cpu4/cpufreq/cpuinfo_max_freq": "2840000\n",
    }
    facts = facts_of(texts, "aarch64")
    assert facts.model_name == "4x ARM Cortex-A55, 1x ARM Cortex-A76"
    assert facts.isa == ("asimd", "asimddp", "fphp")
    assert (facts.max_khz, facts.logical_cores, facts.physical_cores, facts.sockets) == (2_840_000, 5, 5, 1)


@pytest.mark.parametrize(
    ("groups", "files", "memory", "quota"),
    [
        (
            "0::/pod/box\n",
            {"pod/box/memory.max": "max", "pod/memory.max": "2000000000", "pod/box/cpu.max": "150000 100000"},
            2_000_000_000,
            1.5,
        ),
        ("0::/\n", {"memory.max": "max", "cpu.max": "max 100000"}, None, None),
        ("0::/host/path/not/here\n", {"memory.max": "3000000000", "cpu.max": "200000 100000"}, 3_000_000_000, 2.0),
        (
            "4:memory:/box\n2:cpu,cpuacct:/box\n1:name=systemd:/\n0::/\n",
            {
                "memory/box/memory.limit_in_bytes": "1000000000",
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "cpu,cpuacct/box/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/box/cpu.cfs_period_us": "100000",
            },
            1_000_000_000,
            0.5,
        ),
        ("1:cpu:/box\n", {"cpu/box/cpu.cfs_quota_us": "-1", "cpu/box/cpu.cfs_period_us": "100000"}, None, None),
    ],
)
def test_the_tightest_limit_of_all_groups_above_counts(
    plant: Plant, groups: str, files: dict[str, str], memory: int | None, quota: float | None
) -> None:
    tree = {f"sys/fs/cgroup/{name}": f"{text}\n" for name, text in files.items()}
    root = plant({"proc/self/cgroup": groups, **tree})
    assert memory_limit_bytes(root) == memory
    assert cpu_quota(root) == quota


def test_memory_is_what_the_control_group_leaves_of_it(plant: Plant) -> None:
    limits = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000000\n"}
    assert cpu_facts(None, "", plant(machine(XEON, threads=1) | limits)).memory_bytes == 1_000_000


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", (2, 3, 5)), ("250000 100000", (2, 3)), ("50000 100000", (2,))]
)
def test_no_more_cores_are_usable_than_the_quota_pays_for(plant: Plant, quota: str, cores: tuple[int, ...]) -> None:
    root = plant({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{quota}\n"})
    assert usable_cores(frozenset({5, 3, 2}), root) == cores


def test_without_control_groups_every_allowed_core_is_usable(tmp_path: Path) -> None:
    assert usable_cores(frozenset({1, 0}), tmp_path) == (0, 1)
    assert memory_limit_bytes(tmp_path) is None


def test_the_boot_id_is_the_machines_and_does_not_change_while_it_runs() -> None:
    assert len(boot_id()) == 36
    assert boot_id() == boot_id()


def test_sve_vectors_have_a_length_just_where_the_processor_has_sve() -> None:
    assert (sve_bits() > 0) == ("sve" in cpu_facts(None, "").isa)
