"""What disturbs a measurement on a GPU, and the limits it is judged by. Not for watching (no I/O)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GpuConditions:
    """What was seen on a GPU around and while measuring, after every block; None where its driver does not tell."""

    sm_min_mhz: int | None = None
    """Lowest clock of the multiprocessors, MHz."""
    sm_max_mhz: int | None = None
    """Highest clock of the multiprocessors, MHz."""
    memory_min_mhz: int | None = None
    """Lowest clock of the GPU's memory, MHz."""
    memory_max_mhz: int | None = None
    """Highest clock of the GPU's memory, MHz."""
    temperature_max_c: int | None = None
    """Highest temperature, degrees Celsius."""
    power_max_w: float | None = None
    """Highest power drawn, watts."""
    slowdowns: tuple[str, ...] = ()
    """Why the driver held the clocks down for power or heat, in its own words."""
    other_processes: int | None = None
    """Most processes besides the measured one that had the GPU open for computing or drawing."""


@dataclass(frozen=True)
class GpuLimits:
    """Where quiet ends. A value at its limit is still quiet."""

    clock_drop: float = 0.05
    other_processes: int = 0


GPU_LIMITS = GpuLimits()


def gpu_noise(conditions: GpuConditions, limits: GpuLimits = GPU_LIMITS) -> tuple[str, ...]:
    """What was too much, with values and limits in words; empty for a quiet GPU. Where nothing could be watched, quiet
    cannot be claimed."""
    if conditions == GpuConditions():
        return ("nothing could be watched on the GPU",)
    reasons = []
    if conditions.slowdowns:
        reasons.append(f"GPU clocks held down: {', '.join(conditions.slowdowns)}")
    low, high = conditions.sm_min_mhz, conditions.sm_max_mhz
    if low is not None and high and not 1 - low / high <= limits.clock_drop:
        reasons.append(f"drop of the GPU's clock: {1 - low / high:.1%}, limit {limits.clock_drop:.1%}")
    others = conditions.other_processes
    if others is not None and others > limits.other_processes:
        reasons.append(f"other processes on the GPU: {others}, limit {limits.other_processes}")
    return tuple(reasons)
