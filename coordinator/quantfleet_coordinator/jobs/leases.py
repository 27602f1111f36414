"""Deadlines of leases, in memory on the monotonic clock; only epochs are stored, so a restart gives a fresh term."""

import time
from dataclasses import dataclass

from quantfleet_domain.jobs.lifecycle import Task


@dataclass
class Lease:
    """One standing lease. `reply` numbers the answer that carried it (0: of an earlier run of the coordinator)."""

    epoch: int
    deadline: float
    reply: int
    readable: frozenset[str]


class Leases:
    """All standing leases by (job, task). `term_s` is how long one lasts without a heartbeat, in seconds."""

    def __init__(self, term_s: float) -> None:
        self.term_s = term_s
        self._leases: dict[tuple[str, str], Lease] = {}

    def begin(self, job: str, task: Task, reply: int, readable: frozenset[str]) -> None:
        """A task was leased; the node may read these digests while it is."""
        self._leases[job, task.id] = Lease(task.epoch, time.monotonic() + self.term_s, reply, readable)

    def end(self, job: str, task: str) -> None:
        """The lease, if there was one, is over."""
        self._leases.pop((job, task), None)

    def extend(self, job: str, task: str) -> None:
        """The node still holds it."""
        if lease := self._leases.get((job, task)):
            lease.deadline = time.monotonic() + self.term_s

    def reply(self, job: str, task: str) -> int:
        """The number of the answer that carried the lease."""
        return self._leases[job, task].reply

    def readable(self, job: str, task: str) -> frozenset[str]:
        """What the holder may read."""
        return self._leases[job, task].readable

    def expired(self) -> list[tuple[str, str, int]]:
        """(job, task, epoch) of every lease whose term has run out."""
        now = time.monotonic()
        return [(job, task, lease.epoch) for (job, task), lease in self._leases.items() if lease.deadline < now]

    def clear(self) -> None:
        """Forget all leases, before the state is loaded anew."""
        self._leases.clear()
