"""Deadlines of leases, in memory on the monotonic clock; only epochs are stored, so a restart gives a fresh term."""

import time
from collections.abc import Collection
from dataclasses import dataclass

from quantfleet_domain.jobs.lifecycle import Task
from quantfleet_domain.jobs.placement import Claim


@dataclass
class Lease:
    """One standing lease. `reply` numbers the answer that carried it (0: of an earlier run of the coordinator).

    `claim` is what it holds of its machine, as the node was when it began: it stands whatever the node says later.
    """

    node: str
    claim: Claim
    deadline: float
    reply: int
    readable: frozenset[str]


class Leases:
    """All standing leases by (job, task). `term_s` is how long one lasts without a heartbeat, in seconds."""

    def __init__(self, term_s: float) -> None:
        self.term_s = term_s
        self._leases: dict[tuple[str, str], Lease] = {}
        self._lingering: dict[tuple[str, str], Lease] = {}

    def begin(self, job: str, task: Task, claim: Claim, reply: int, readable: frozenset[str]) -> None:
        """A task was leased; the node may read these digests while it is."""
        self._leases[job, task.id] = Lease(task.node, claim, time.monotonic() + self.term_s, reply, readable)

    def end(self, job: str, task: str) -> None:
        """The lease, if there was one, is over."""
        self._leases.pop((job, task), None)

    def linger(self, job: str, task: str) -> None:
        """The lease is over by our decision, and its node has yet to hear of it: its claim stands until then."""
        if lease := self._leases.pop((job, task), None):
            self._lingering[job, task] = lease

    def left(self, node: str, held: Collection[tuple[str, str]]) -> bool:
        """A node says what it holds; whether a lingering claim of it ended by that."""
        gone = [key for key, lease in self._lingering.items() if lease.node == node and key not in held]
        for key in gone:
            del self._lingering[key]
        return bool(gone)

    def extend(self, job: str, task: str) -> None:
        """The node still holds it."""
        if lease := self._leases.get((job, task)):
            lease.deadline = time.monotonic() + self.term_s

    def reply(self, job: str, task: str) -> int:
        """The number of the answer that carried the lease."""
        return self._leases[job, task].reply

    def of(self, node: str) -> list[tuple[str, str]]:
        """(job, task) of every lease of a node."""
        return [key for key, lease in self._leases.items() if lease.node == node]

    def claims(self) -> list[Claim]:
        """What the standing leases hold, and what runs on after them: until its node says otherwise or must have
        killed it, because the term has passed since its last sign of life."""
        now = time.monotonic()
        lingering = [lease.claim for lease in self._lingering.values() if lease.deadline > now]
        return [lease.claim for lease in self._leases.values()] + lingering

    def may_read(self, node: str, digest: str) -> bool:
        """Whether a task leased to this node refers to this artifact."""
        return any(lease.node == node and digest in lease.readable for lease in self._leases.values())

    def expired(self) -> list[tuple[str, str]]:
        """(job, task) of every lease whose term has run out."""
        now = time.monotonic()
        return [key for key, lease in self._leases.items() if lease.deadline < now]

    def clear(self) -> None:
        """Forget all leases, before the state is loaded anew."""
        self._leases.clear()
        self._lingering.clear()
