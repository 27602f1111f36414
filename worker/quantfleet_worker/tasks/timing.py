"""Timing a contender's runs, block by block. Not for which block comes when, nor for what the times come to."""

import time
from dataclasses import dataclass, field

from quantfleet_domain.jobs.measured import Part
from quantfleet_worker.tasks.contenders import Contender

_NS_PER_MS = 1_000_000


@dataclass
class Times:
    """What the runs of a contender took, block by block, nanoseconds: `runs` by this host's monotonic clock, `parts` of
    the same runs by the device's own."""

    runs: list[tuple[int, ...]] = field(default_factory=list)
    parts: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)

    def time(self, contender: Contender, runs: int) -> None:
        """Time one more block of so many runs. What the device measured is asked for between the runs."""
        clock = time.perf_counter_ns
        latencies: list[int] = []
        parts: dict[str, list[int]] = {}
        for _ in range(runs):
            start = clock()
            contender.run()
            latencies.append(clock() - start)
            for name, taken in contender.parts_ns().items():
                parts.setdefault(name, []).append(taken)
        self.runs.append(tuple(latencies))
        for name, block in parts.items():
            self.parts.setdefault(name, []).append(tuple(block))

    def means(self) -> tuple[Part, ...]:
        """The mean of each part over all runs."""
        pooled = {name: [taken for block in blocks for taken in block] for name, blocks in self.parts.items()}
        return tuple(Part(name, sum(taken) / len(taken) / _NS_PER_MS) for name, taken in pooled.items())
