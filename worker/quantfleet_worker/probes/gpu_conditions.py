"""Watches what spoils a latency on a GPU while it is measured, as raw figures. Not whether they are too much.

Like `conditions`, it starts no thread: the measurement calls `sample` between its blocks, outside of anything timed.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from quantfleet_domain.measurement.gpu_conditions import GpuConditions

from .nvml import opened, told

SLOWDOWNS = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
    0x200: "board limit",
    0x400: "reliability",
}
"""Bits of nvmlClocksEventReasons (nvml.h) that hold clocks down for power or heat. The others are the user's own
settings, or an idle GPU."""
_FIRST_NAMESPACE = "pid:[4026531836]"
"""The machine's own process namespace (include/linux/proc_ns.h, PROC_PID_INIT_INO)."""


@dataclass(frozen=True)
class Sample:
    """One look at a GPU; None for what it did not say. `reasons` are the bits why its clocks are what they are; `users`
    the ids of the processes that have it open."""

    sm_mhz: int | None
    memory_mhz: int | None
    temperature_c: int | None
    power_mw: int | None
    reasons: int | None
    users: tuple[int, ...] | None


class GpuConditionsWatch:
    """Samples the GPU of a UUID (`GPU-…`, or `MIG-…` for an instance, whose board's clocks are its own). The processes
    in `own_pids`, with this one, count as nobody."""

    def __init__(self, uuid: str, own_pids: Collection[int] = (), root: Path = Path("/")) -> None:
        nvml = opened()
        self._module = nvml.module
        self._handle = None if nvml.module is None else told(nvml.module, nvml.module.nvmlDeviceGetHandleByUUID, uuid)
        self._own = frozenset({os.getpid(), *own_pids})
        self._namespaced = _namespaced(root)
        self._samples: list[Sample] = []

    def sample(self) -> None:
        """Ask the driver once: about a millisecond."""
        if self._module is not None and self._handle is not None:
            self._samples.append(_sample(self._module, self._handle))

    def conditions(self) -> GpuConditions:
        """What was seen over all samples."""
        return summarized(self._samples, self._own, namespaced=self._namespaced)


def clocks_mhz(uuid: str) -> dict[str, int]:
    """The clocks of a GPU as they are now, `sm` and `memory`, MHz; without those that its driver does not tell."""
    watch = GpuConditionsWatch(uuid)
    watch.sample()
    seen = watch.conditions()
    found = {"sm": seen.sm_max_mhz, "memory": seen.memory_max_mhz}
    return {name: value for name, value in found.items() if value is not None}


def summarized(samples: Sequence[Sample], own: Collection[int], *, namespaced: bool) -> GpuConditions:
    """The samples as conditions; `own` are the processes that count as nobody.

    In a container (`namespaced`) the driver names processes by ids that mean nothing there; then one of those that it
    names is taken for the measured one.
    """
    power = [item.power_mw for item in samples if item.power_mw is not None]
    reasons = 0
    for item in samples:
        reasons |= item.reasons or 0
    others = [_others(item.users, own, namespaced=namespaced) for item in samples if item.users is not None]
    sm, memory = ([value for value in of if value is not None] for of in zip(*_clocks(samples), strict=True))
    return GpuConditions(
        sm_min_mhz=min(sm, default=None),
        sm_max_mhz=max(sm, default=None),
        memory_min_mhz=min(memory, default=None),
        memory_max_mhz=max(memory, default=None),
        temperature_max_c=max((t for item in samples if (t := item.temperature_c) is not None), default=None),
        power_max_w=max(power) / 1000 if power else None,
        slowdowns=tuple(name for bit, name in SLOWDOWNS.items() if reasons & bit),
        other_processes=max(others, default=None),
    )


def _clocks(samples: Sequence[Sample]) -> Sequence[tuple[int | None, int | None]]:
    return [(item.sm_mhz, item.memory_mhz) for item in samples] or [(None, None)]


def _others(users: Collection[int], own: Collection[int], *, namespaced: bool) -> int:
    return max(0, len(set(users)) - 1) if namespaced else len(set(users) - set(own))


def _sample(module: ModuleType, handle: Any) -> Sample:
    board = told(module, module.nvmlDeviceGetDeviceHandleFromMigDeviceHandle, handle) or handle
    computing = told(module, module.nvmlDeviceGetComputeRunningProcesses, handle)
    drawing = told(module, module.nvmlDeviceGetGraphicsRunningProcesses, handle) or []
    return Sample(
        sm_mhz=told(module, module.nvmlDeviceGetClockInfo, board, module.NVML_CLOCK_SM),
        memory_mhz=told(module, module.nvmlDeviceGetClockInfo, board, module.NVML_CLOCK_MEM),
        temperature_c=told(module, module.nvmlDeviceGetTemperature, board, module.NVML_TEMPERATURE_GPU),
        power_mw=told(module, module.nvmlDeviceGetPowerUsage, board),
        reasons=_reasons(module, board),
        users=None if computing is None else tuple(process.pid for process in (*computing, *drawing)),
    )


def _reasons(module: ModuleType, board: Any) -> int | None:
    """Drivers before the series 535 know them under the older name only."""
    named: int | None = told(module, module.nvmlDeviceGetCurrentClocksEventReasons, board)
    if named is None:
        named = told(module, module.nvmlDeviceGetCurrentClocksThrottleReasons, board)
    return named


def _namespaced(root: Path) -> bool:
    try:
        return str((root / "proc/self/ns/pid").readlink()) != _FIRST_NAMESPACE
    except OSError:
        return True
