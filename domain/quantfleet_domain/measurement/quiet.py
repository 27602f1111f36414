"""Whether a measurement was disturbed: what was watched, and the limits it is judged by. Not for watching (no I/O)."""

from collections.abc import Callable
from dataclasses import dataclass, fields

from quantfleet_domain.measurement.gpu_conditions import GpuConditions, gpu_noise


@dataclass(frozen=True)
class Conditions:
    """What was seen on a measurement domain around and while measuring; None where the machine does not tell.

    Shares are between 0 and 1. The measured process, the watcher and the worker's own idle daemons count as nobody.
    """

    steal_share: float | None = None
    """CPU ticks that the hypervisor gave to others, of all ticks of the measured CPUs."""
    other_cpu_share: float | None = None
    """CPU time of other processes, of what the domain's CPUs had to give."""
    run_queue: float | None = None
    """Runnable threads besides the measured ones and the watcher, on average."""
    frequency_min_khz: int | None = None
    """Lowest clock seen on a measured CPU, kHz."""
    frequency_max_khz: int | None = None
    """Highest clock seen on a measured CPU, kHz."""
    throttle_count: int | None = None
    """Thermal or power throttling of the measured CPUs, and stops by a CPU quota, while measuring."""
    gpu: GpuConditions | None = None
    """What was seen on the measured GPU; None for every other device."""


@dataclass(frozen=True)
class QuietLimits:
    """Where quiet ends. A value at its limit is still quiet."""

    steal_share: float = 0.01
    other_cpu_share: float = 0.05
    run_queue: float = 0.5
    frequency_drop: float = 0.1
    throttle_count: int = 0


LIMITS = QuietLimits()


@dataclass(frozen=True)
class Verdict:
    """`quiet`, or noisy for the `reasons` given (values and limits in words)."""

    quiet: bool
    reasons: tuple[str, ...] = ()


def judge(conditions: Conditions, limits: QuietLimits = LIMITS) -> Verdict:
    """Judge what was watched by the limits. Where nothing could be watched, quiet cannot be claimed."""
    if all(getattr(conditions, field.name) is None for field in fields(conditions)):
        return Verdict(False, ("nothing could be watched on this machine",))
    reasons: list[str] = []

    def over(value: float | None, limit: float, what: str, form: Callable[[float], str]) -> None:
        if value is not None and not value <= limit:
            reasons.append(f"{what}: {form(value)}, limit {form(limit)}")

    over(conditions.steal_share, limits.steal_share, "CPU time stolen by the hypervisor", "{:.1%}".format)
    over(conditions.other_cpu_share, limits.other_cpu_share, "CPU time of other processes", "{:.1%}".format)
    over(conditions.run_queue, limits.run_queue, "other runnable threads", "{:.2f}".format)
    low, high = conditions.frequency_min_khz, conditions.frequency_max_khz
    if low is not None and high:
        over(1 - low / high, limits.frequency_drop, "drop of the clock", "{:.1%}".format)
    over(conditions.throttle_count, limits.throttle_count, "throttling events", "{:.0f}".format)
    if conditions.gpu is not None:
        reasons += gpu_noise(conditions.gpu)
    return Verdict(not reasons, tuple(reasons))
