"""What processor and memory are and how much of them this process may use. Not how fast they are."""

import ctypes
import os
from pathlib import Path

from quantfleet_domain.hardware.facts import ISA_FLAGS, CpuFacts, VnniSelfTest
from quantfleet_worker.probes.cgroups import cpu_quota, memory_limit_bytes

_CPUS = "sys/devices/system/cpu"

_PR_SVE_GET_VL, _PR_SVE_VL_LEN_MASK = 51, 0xFFFF  # include/uapi/linux/prctl.h
_ARM_IMPLEMENTERS = {  # arch/arm64/include/asm/cputype.h
    "0x41": "ARM",
    "0x46": "Fujitsu",
    "0x48": "HiSilicon",
    "0x4e": "NVIDIA",
    "0x51": "Qualcomm",
    "0x61": "Apple",
    "0xc0": "Ampere",
}


def usable_cores(allowed: frozenset[int], root: Path = Path("/")) -> tuple[int, ...]:
    """The logical cores that a benchmark may be pinned to, ascending: as many of `allowed` as the quota pays for.

    `allowed` is this process's affinity. More cores than the quota would be throttled in the middle of a run.
    """
    quota = cpu_quota(root)
    cores = sorted(allowed)
    return tuple(cores if quota is None else cores[: max(1, int(quota))])


def cpu_facts(vnni: VnniSelfTest | None, vnni_missing: str, root: Path = Path("/")) -> CpuFacts:
    """Everything /proc and /sys say about processor and memory, with the self-test's finding beside it."""
    processors = _processors((root / "proc/cpuinfo").read_text())
    first = processors[0] if processors else {}
    flags = set((first.get("flags") or first.get("Features") or "").split())
    implementer = first.get("CPU implementer", "")
    vendor = first.get("vendor_id") or _ARM_IMPLEMENTERS.get(implementer, implementer)
    part = first.get("CPU part", "")
    online = [path for path in (root / _CPUS).glob("cpu[0-9]*") if (path / "topology").is_dir()]
    places = {(_read(cpu / "topology/physical_package_id"), _read(cpu / "topology/core_id")) for cpu in online}
    logical = len(processors) or len(online) or 1
    limit = memory_limit_bytes(root)
    memory = _memory_bytes((root / "proc/meminfo").read_text())
    frequency = _read(root / _CPUS / "cpu0/cpufreq/cpuinfo_max_freq")
    return CpuFacts(
        model_name=first.get("model name") or f"{vendor} part {part}".strip(),
        vendor=vendor,
        architecture=os.uname().machine,
        isa=tuple(flag for flag in ISA_FLAGS if flag in flags),
        sockets=len({package for package, _ in places}) or 1,
        physical_cores=len(places) or logical,
        logical_cores=logical,
        memory_bytes=memory if limit is None else min(memory, limit),
        max_khz=int(frequency) if frequency.isdigit() else None,
        governor=_read(root / _CPUS / "cpu0/cpufreq/scaling_governor") or None,
        vnni=vnni,
        vnni_missing=vnni_missing,
    )


def sve_bits() -> int:
    """The length of the SVE vectors that this process computes with, in bits; 0 where the processor has no SVE."""
    length = int(ctypes.CDLL(None).prctl(_PR_SVE_GET_VL, 0, 0, 0, 0))
    return 8 * (length & _PR_SVE_VL_LEN_MASK) if length >= 0 else 0


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
