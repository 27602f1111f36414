"""The state of all jobs: in memory for speed, in the store for truth. A change is durable before anyone is told of it.

All methods run on one event loop. A change is made in memory and queued for the writer without a pause between, and the
writer is first in, first out: so whoever acts upon a change that is not durable yet is answered only after it is.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

from quantfleet_coordinator.jobs.changes import Changes
from quantfleet_coordinator.jobs.entry import JobEntry
from quantfleet_coordinator.jobs.leases import Leases
from quantfleet_coordinator.nodes import Nodes
from quantfleet_coordinator.store.base import Record, Store
from quantfleet_coordinator.store.records import (
    AttemptRecord,
    AuditRecord,
    EventRecord,
    JobRecord,
    NodeRecord,
    PoolRecord,
    TaskRecord,
)
from quantfleet_coordinator.store.writer import Writer
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.pools import BUILT_IN_POOLS, Selector, parse
from quantfleet_domain.jobs.lifecycle import Cancelled, Event, Failure, Leased, Lost, Task, TaskChanged, TaskState
from quantfleet_domain.jobs.manifest import Manifest
from quantfleet_domain.jobs.placement import Candidate, Claim
from quantfleet_domain.jobs.task_results import Result


class Ledger:
    """Jobs, nodes, pools and leases, and the one way to change them."""

    def __init__(self, writer: Writer, nodes: Nodes, leases: Leases) -> None:
        self.nodes = nodes
        self.leases = leases
        self.jobs: dict[str, JobEntry] = {}
        self.changes = Changes()
        self.selectors: dict[str, Selector] = {}
        self.pools: dict[str, str] = {}
        self.audit_sequence = 0
        self._writer = writer
        for pool in BUILT_IN_POOLS:
            self.put_pool(pool.name, pool.selector_text)

    def load(self, store: Store, manifest: Callable[[str], Manifest]) -> None:
        """Take everything from the store; blocks on the disk. Every standing lease gets one fresh term."""
        self.nodes.load(store.all(NodeRecord))
        self.leases.clear()
        self.jobs.clear()
        for pool in store.all(PoolRecord):
            self.put_pool(pool.name, pool.selector)
        self.audit_sequence = max((row.sequence for row in store.all(AuditRecord)), default=0)
        for record in sorted(store.all(JobRecord), key=lambda row: row.created_at):
            sequence = max((row.sequence for row in store.where(EventRecord, job_id=record.id)), default=0)
            tasks = store.where(TaskRecord, job_id=record.id)
            entry = self.jobs[record.id] = JobEntry.restore(record, tasks, sequence, manifest)
            for task in entry.job.tasks.values():
                if task.state is TaskState.LEASED:
                    self._lease(entry, task, 0)

    async def record(self, *records: Record, deletes: Iterable[tuple[type[Record], tuple[Any, ...]]] = ()) -> None:
        """Make records durable, then wake whoever waits. Nothing to write still waits for what was queued before."""
        try:
            await self._writer.submit(list(records), list(deletes))
        finally:  # a caller that is cancelled here leaves its change behind, for others to act upon
            self.changes.notify()

    async def apply(self, job: str, event: Event, result: Result | None = None, extra: tuple[Record, ...] = ()) -> None:
        """Take one step of a job's lifecycle and make it durable. Raises as `step` does, with nothing changed."""
        await self.record(*self.change(job, event, result), *extra)

    def change(self, job: str, event: Event, result: Result | None = None) -> list[Record]:
        """Take one step in memory; the records returned must go to `record` before anything is awaited."""
        now = time.time()
        entry = self.jobs[job]
        records, effects = entry.apply(event, now, result)
        for effect in effects:
            if not isinstance(effect, TaskChanged):
                continue
            # A node goes on with a cancelled task until its next heartbeat.
            over = self.leases.linger if isinstance(event, Cancelled) else self.leases.end
            over(job, effect.after.id)
            # What the coordinator does itself has no device, and no lease that could run out.
            if isinstance(event, Leased) and effect.after.state is TaskState.LEASED and effect.after.device:
                self._lease(entry, effect.after, self.nodes.get(effect.after.node).replies)
        return [*records]

    def _lease(self, entry: JobEntry, task: Task, reply: int) -> None:
        facts = self.nodes.device(task.node, task.device)
        claim = Claim(facts.measurement_domain if facts else task.node, entry.requirement(task.id).exclusive)
        self.leases.begin(entry.record.id, task, claim, reply, entry.readable(task.id))

    def lose(self, job: str, task: Task, reason: str) -> list[Record]:
        """End a lease without a result, in memory; the records go to `record` as those of `change`."""
        return self.change(job, Lost(task.id, task.epoch, reason))

    def lose_all(self, node: str, reason: str) -> list[Record]:
        """End every lease of a node without a result; as `lose`."""
        return [r for entry, task in self.leased_to(node) for r in self.lose(entry.record.id, task, reason)]

    def attempt(self, job: str, task: Task, failure: Failure, log_tail: str) -> AttemptRecord:
        """What is kept of a failed attempt."""
        return AttemptRecord(
            job, task.id, task.epoch, task.node, time.time(), failure.code, failure.what, failure.todo, log_tail
        )

    def audited(self, actor: str, action: str, subject: str) -> AuditRecord:
        """The next entry of the audit log."""
        self.audit_sequence += 1
        return AuditRecord(self.audit_sequence, time.time(), actor, action, subject)

    def put_pool(self, name: str, selector: str) -> PoolRecord:
        """Define a pool. Raises QuantfleetError(JOB_INVALID) for a selector that cannot be read."""
        self.selectors[name] = parse(selector)
        self.pools[name] = selector
        return PoolRecord(name, selector)

    def find(self, job: str) -> JobEntry:
        """A job by its identifier or a unique beginning of it. Raises QuantfleetError(JOB_NOT_FOUND)."""
        found = [entry for key, entry in self.jobs.items() if key.startswith(job)] if job else []
        if job in self.jobs:
            found = [self.jobs[job]]
        if len(found) != 1:
            what = f"{len(found)} jobs begin with {job!r}" if found else f"no job is called {job!r}"
            raise QuantfleetError(ErrorCode.JOB_NOT_FOUND, what, "see the jobs: quantfleet job list")
        return found[0]

    def tasks_in(self, state: TaskState) -> Iterable[tuple[JobEntry, Task]]:
        """Every task in a state, oldest job first, in plan order."""
        for entry in self.jobs.values():
            if entry.job.state == "running":
                for task in entry.job.tasks.values():
                    if task.state is state:
                        yield entry, task

    def leased_to(self, node: str) -> list[tuple[JobEntry, Task]]:
        """The leases of a node."""
        return [(self.jobs[job], self.jobs[job].job.tasks[task]) for job, task in self.leases.of(node)]

    def candidate(self, entry: JobEntry, task: Task) -> Candidate:
        """A ready task as placement sees it."""
        needed = entry.requirement(task.id)
        selector = self.selectors.get(needed.pool) if needed.pool else None
        return Candidate(entry.record.id, task.id, needed, selector, task.failed_on)
