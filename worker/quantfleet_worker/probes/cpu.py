"""What processor and memory are and how much of them this process may use. Not how fast they are."""

import ctypes
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from quantfleet_domain.hardware.facts import ISA_FLAGS, CpuFacts, VnniSelfTest
from quantfleet_worker.probes import arm_cores
from quantfleet_worker.probes.cgroups import cpu_quota, memory_limit_bytes

_CPUS = "sys/devices/system/cpu"
_PR_SVE_GET_VL, _PR_SVE_VL_LEN_MASK = 51, 0xFFFF  # include/uapi/linux/prctl.h
_PLACE = ("physical_package_id", "core_id")
_CLOCK = ("cpuinfo_max_freq", "scaling_governor")
FILES = (
    "proc/cpuinfo",
    "proc/meminfo",
    *(f"{_CPUS}/cpu[0-9]*/topology/{name}" for name in _PLACE),
    *(f"{_CPUS}/cpu[0-9]*/cpufreq/{name}" for name in _CLOCK),
)
"""The files that say what a processor is, as patterns below the root of a file system."""


def usable_cores(allowed: frozenset[int], root: Path = Path("/")) -> tuple[int, ...]:
    """The logical cores that a benchmark may be pinned to, ascending: as many of `allowed` as the quota pays for.

    `allowed` is this process's affinity. More cores than the quota would be throttled in the middle of a run.
    """
    quota = cpu_quota(root)
    cores = sorted(allowed)
    return tuple(cores if quota is None else cores[: max(1, int(quota))])


def cpu_facts(vnni: VnniSelfTest | None, vnni_missing: str, root: Path = Path("/")) -> CpuFacts:
    """Everything /proc and /sys say about processor and memory, with the self-test's finding beside it."""
    texts = {str(path.relative_to(root)): _read(path) for pattern in FILES for path in root.glob(pattern)}
    facts = facts_of(texts, os.uname().machine)
    limit = memory_limit_bytes(root)
    memory = facts.memory_bytes if limit is None else min(facts.memory_bytes, limit)
    return replace(facts, memory_bytes=memory, vnni=vnni, vnni_missing=vnni_missing)


def facts_of(texts: Mapping[str, str], architecture: str) -> CpuFacts:
    """What the texts of `FILES` say, by path: of any machine, wherever it is. Without a self-test.

    `isa` is what all its cores have, `max_khz` what its fastest has, and `governor` what its first has: a phone's cores
    differ. Raises KeyError without `proc/cpuinfo` or `proc/meminfo`.
    """
    processors = _processors(texts["proc/cpuinfo"])
    first = processors[0] if processors else {}
    flags = [set((processor.get("flags") or processor.get("Features") or "").split()) for processor in processors]
    shared = set.intersection(*flags) if flags else set()
    cpus = {Path(path).parts[4] for path in texts if path.endswith("/topology/core_id")}
    places = {tuple(texts.get(f"{_CPUS}/{cpu}/topology/{name}", "").strip() for name in _PLACE) for cpu in cpus}
    maxima = [text.strip() for path, text in texts.items() if path.endswith("/cpufreq/cpuinfo_max_freq")]
    logical = len(processors) or len(cpus) or 1
    return CpuFacts(
        model_name=first.get("model name") or _cores(processors),
        vendor=first.get("vendor_id") or arm_cores.vendor(first.get("CPU implementer", "")),
        architecture=architecture,
        isa=tuple(flag for flag in ISA_FLAGS if flag in shared),
        sockets=len({package for package, _ in places}) or 1,
        physical_cores=len(places) or logical,
        logical_cores=logical,
        memory_bytes=_memory_bytes(texts["proc/meminfo"]),
        max_khz=max((int(khz) for khz in maxima if khz.isdigit()), default=None),
        governor=texts.get(f"{_CPUS}/cpu0/cpufreq/scaling_governor", "").strip() or None,
        vnni=None,
        vnni_missing="",
    )


def sve_bits() -> int:
    """The length of the SVE vectors that this process computes with, in bits; 0 where the processor has no SVE."""
    length = int(ctypes.CDLL(None).prctl(_PR_SVE_GET_VL, 0, 0, 0, 0))
    return 8 * (length & _PR_SVE_VL_LEN_MASK) if length >= 0 else 0


def _cores(processors: Sequence[Mapping[str, str]]) -> str:
    """The kinds of cores in their order, with how many there are where they differ: `4x ARM Cortex-A55, 4x ...`."""
    kinds = Counter(arm_cores.core(each.get("CPU implementer", ""), each.get("CPU part", "")) for each in processors)
    return ", ".join(kind if len(kinds) == 1 else f"{count}x {kind}" for kind, count in kinds.items())


def _processors(cpuinfo: str) -> list[dict[str, str]]:
    """One dictionary per logical processor. A block without a number, as on some ARM kernels, is of the whole board."""
    blocks = [
        {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}
        for block in cpuinfo.strip().split("\n\n")
    ]
    return [block for block in blocks if "processor" in block]


def _memory_bytes(meminfo: str) -> int:
    return next(int(line.split()[1]) * 1024 for line in meminfo.splitlines() if line.startswith("MemTotal:"))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
