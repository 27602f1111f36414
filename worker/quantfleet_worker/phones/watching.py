"""What can be seen of a phone while it measures: the process that runs, and what else does. Not for judging it.

What is in effect is read from the kernel while the tool runs, for the tool itself says only what it was asked for.
"""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quantfleet_domain.measurement.quiet import Conditions
from quantfleet_worker.phones.transports.base import Transport

SETTLING_S = 1.0
"""How long past loading the tool runs before it is looked at."""
_PATIENCE_S = 60.0
_LOOK = """
wait_s=$1; shift
"$@" >/dev/null 2>&1 &
tool=$!
sleep "$wait_s"
for task in /proc/$tool/task/*/status; do cat "$task" 2>/dev/null; done
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
  clock=$(cat "$cpu/cpufreq/scaling_cur_freq" 2>/dev/null) && echo "clock ${cpu##*/cpu} $clock"
done
kill -9 $tool
wait $tool 2>/dev/null
exit 0
"""
_ALLOWED = re.compile(r"^Cpus_allowed_list:\s*(\S+)", re.MULTILINE)
_CLOCK = re.compile(r"^clock (\d+) (\d+)$", re.MULTILINE)
_RUNNING = re.compile(r"^\S+ \S+ \S+ (\d+)/\d+")


@dataclass(frozen=True)
class Running:
    """What a running tool has: its threads, the cores that they may use, and the clock of each of these in kHz."""

    threads: int
    cores: tuple[int, ...]
    clocks_khz: Mapping[int, int]


def look_at(transport: Transport, command: Sequence[str], loading_ms: float) -> Running | None:
    """Start the tool, look at it a second after it has loaded, and end it; None where the phone's kernel does not tell.

    `command` must run for longer than that. Raises QuantfleetError(PHONE_LOST).
    """
    wait_s = loading_ms / 1000 + SETTLING_S
    ran = transport.run(["sh", "-c", _LOOK, "sh", f"{wait_s:.1f}", *command], wait_s + _PATIENCE_S)
    return running(ran.stdout)


def running(text: str) -> Running | None:
    """Read what `look_at` made the phone print."""
    allowed = _ALLOWED.findall(text)
    if not allowed:
        return None
    cores = sorted({core for item in allowed for core in _listed(item)})
    clocks = {int(core): int(khz) for core, khz in _CLOCK.findall(text)}
    return Running(len(allowed), tuple(cores), {core: clocks[core] for core in cores if core in clocks})


@dataclass
class Watch:
    """Gathers what tells whether a measurement was disturbed."""

    transport: Transport
    _queues: list[int] = field(default_factory=list)
    _clocks_khz: dict[int, list[int]] = field(default_factory=dict)

    def look_around(self) -> None:
        """Between rounds: how many threads want to run. The one that reads is not counted."""
        ran = self.transport.run(["cat", "/proc/loadavg"], _PATIENCE_S)
        if found := _RUNNING.match(ran.stdout):
            self._queues.append(max(int(found[1]) - 1, 0))

    def saw(self, running_: Running | None) -> None:
        """While the tool runs: the clocks of its cores."""
        for core, khz in (running_.clocks_khz if running_ else {}).items():
            self._clocks_khz.setdefault(core, []).append(khz)

    def conditions(self) -> Conditions:
        """What came of it; what the phone does not tell stays None. The clocks are those of the core that varied most:
        two clusters have different ones by design."""
        varied = min(self._clocks_khz.values(), key=lambda seen: min(seen) / max(seen), default=[])
        return Conditions(
            run_queue=statistics.fmean(self._queues) if self._queues else None,
            frequency_min_khz=min(varied, default=None),
            frequency_max_khz=max(varied, default=None),
        )


def _listed(text: str) -> list[int]:
    """The numbers of a list like `0-3,6`."""
    spans = (part.partition("-") for part in text.split(","))
    return [core for first, _, last in spans for core in range(int(first), int(last or first) + 1)]
