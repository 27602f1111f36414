"""Watches what spoils a latency while it is measured, as raw figures. Not whether they are too much: `judge` says.

It starts no thread: the measurement calls `sample` between its blocks, outside of anything timed.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantfleet_domain.measurement.quiet import Conditions
from quantfleet_worker.probes.cgroups import throttled_periods

_STEAL = 7  # columns of a cpu line in /proc/stat (proc(5)): user nice system idle iowait irq softirq steal guest …
_BUSY = (0, 1, 2, 5, 6)  # guest time is part of user time
_TICKS = range(8)


@dataclass(frozen=True)
class _Sample:
    ticks: dict[int, tuple[int, ...]]
    own_ticks: dict[int, int]
    others_running: int
    frequencies_khz: tuple[int, ...]
    throttles: int | None


class ConditionsWatch:
    """Samples the given logical cores; the processes in `own_pids`, with this one, count as nobody.

    `cores` are what the benchmark is pinned to: steal, clock and throttling are theirs, for an idle core has its lowest
    clock and nothing that could be stolen. The load of others is that on all of `domain` (the same cores unless told).
    `root` is the root of the file system to read.
    """

    def __init__(
        self,
        cores: Sequence[int],
        own_pids: Collection[int] = (),
        root: Path = Path("/"),
        *,
        domain: Sequence[int] | None = None,
    ) -> None:
        self._cores = tuple(cores)
        self._domain = self._cores if domain is None else tuple(domain)
        self._own = tuple({os.getpid(), *own_pids})
        self._root = root
        self._samples: list[_Sample] = []

    def sample(self) -> None:
        """Read the counters once: a fraction of a millisecond and a few more for every hundred threads of ours."""
        stat = (self._root / "proc/stat").read_text()
        running = next(int(line.split()[1]) for line in stat.splitlines() if line.startswith("procs_running"))
        tasks = [task for pid in self._own for task in self._tasks(pid)]
        ours = sum(state == "R" for _, state, _ in tasks)
        own_ticks: dict[int, int] = {}
        for pid, _, ticks in tasks:
            own_ticks[pid] = own_ticks.get(pid, 0) + ticks
        cpus = self._root / "sys/devices/system/cpu"
        frequencies = [_number(cpus / f"cpu{core}/cpufreq/scaling_cur_freq") for core in self._cores]
        names = ("core_throttle_count", "package_throttle_count")
        throttles = [_number(cpus / f"cpu{core}/thermal_throttle/{name}") for core in self._cores for name in names]
        known = [count for count in (*throttles, throttled_periods(self._root)) if count is not None]
        self._samples.append(
            _Sample(
                ticks=_cpu_ticks(stat, {*self._cores, *self._domain}),
                own_ticks=own_ticks,
                others_running=max(0, running - ours),
                frequencies_khz=tuple(khz for khz in frequencies if khz is not None),
                throttles=sum(known) if known else None,
            )
        )

    def conditions(self) -> Conditions:
        """What was seen from the first sample to the last; a figure that the machine does not give is None.

        The kernel counts CPU time in ticks of 10 ms as a rule: over less than a second the shares mean little.
        """
        if len(self._samples) < 2:
            return Conditions()
        first, last = self._samples[0], self._samples[-1]
        deltas = {
            core: tuple(after - before for before, after in zip(first.ticks[core], last.ticks[core], strict=True))
            for core in first.ticks
            if core in last.ticks
        }
        measured = [delta for core, delta in deltas.items() if core in self._cores]
        everywhere = [delta for core, delta in deltas.items() if core in self._domain]
        own_total, total = (sum(sum(delta) for delta in of) for of in (measured, everywhere))
        busy = sum(delta[column] for delta in everywhere for column in _BUSY)
        own = sum(ticks - first.own_ticks.get(pid, 0) for pid, ticks in last.own_ticks.items())
        frequencies = [khz for sample in self._samples for khz in sample.frequencies_khz]
        return Conditions(
            steal_share=sum(delta[_STEAL] for delta in measured) / own_total if own_total else None,
            other_cpu_share=max(0, busy - own) / total if total else None,
            run_queue=sum(sample.others_running for sample in self._samples) / len(self._samples),
            frequency_min_khz=min(frequencies, default=None),
            frequency_max_khz=max(frequencies, default=None),
            throttle_count=(
                None if first.throttles is None or last.throttles is None else last.throttles - first.throttles
            ),
        )

    def _tasks(self, pid: int) -> list[tuple[int, str, int]]:
        """(pid, state, CPU ticks): ticks of the whole process with its ended threads, states of each thread."""
        process = self._root / f"proc/{pid}"
        found = _stat(process)
        if found is None:
            return []
        threads = [_stat(task) for task in (process / "task").glob("[0-9]*")]
        return [(pid, "", found[1]), *((pid, thread[0], 0) for thread in threads if thread is not None)]


def _stat(process: Path) -> tuple[str, int] | None:
    """State and CPU ticks (user and system) from a stat file; None where it is gone."""
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], sum(map(int, fields[11:13]))


def _cpu_ticks(stat: str, cores: Collection[int]) -> dict[int, tuple[int, ...]]:
    wanted = {f"cpu{core}": core for core in cores}
    rows = (line.split() for line in stat.splitlines())
    return {
        wanted[row[0]]: tuple(int(row[1 + column]) for column in _TICKS) for row in rows if row and row[0] in wanted
    }


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
