"""What nodes ask of the coordinator: registration, leased tasks, heartbeats, results. Not for what users ask."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from quantfleet_coordinator.jobs.entry import JobEntry, digest_of, result_bytes
from quantfleet_coordinator.jobs.ledger import Ledger
from quantfleet_coordinator.store.base import Record, storable
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.finite import not_finite
from quantfleet_domain.hardware.facts import DeviceFacts
from quantfleet_domain.jobs.lifecycle import Completed, Failed, Failure, Leased, Starved, Task, TaskState
from quantfleet_domain.jobs.measured import BenchmarkResult
from quantfleet_domain.jobs.placement import Candidate, Claim, Place, choose, reason, why_not
from quantfleet_domain.jobs.results import check_result
from quantfleet_domain.jobs.task_results import Result
from quantfleet_domain.jobs.validation import is_readable
from quantfleet_protos.v1 import fleet_pb2, task_pb2
from quantfleet_wire.codec import decode, encode

_log = logging.getLogger(__name__)
LONGEST_POLL_S = 30.0
LONGEST_REST_S = 30.0


class Dispatcher:
    """Leases tasks to nodes and takes back what comes of them."""

    def __init__(self, ledger: Ledger, stored: Callable[[str], bool]) -> None:
        self._ledger = ledger
        self._stored = stored
        self._unservable_since: dict[tuple[str, str], float] = {}
        self._resting: dict[tuple[str, str], float] = {}

    async def register(self, node: str, request: fleet_pb2.RegisterRequest) -> None:
        """Begin a new run of a node; whatever its previous run held is lost, and goes to whoever asks next.

        Raises QuantfleetError(USAGE) for names and facts that cannot be.
        """
        names = [request.incarnation, *(name for d in request.devices for name in (d.device, d.measurement_domain))]
        if not all(name and is_readable(name) for name in names):
            raise QuantfleetError(
                ErrorCode.USAGE, f"node {node} has a run or a device without a proper name", "start its worker again"
            )
        facts = (decode(device, DeviceFacts) for device in request.devices)
        if wrong := next(filter(None, map(not_finite, facts)), ""):
            raise QuantfleetError(ErrorCode.USAGE, f"a fact of node {node} is none: {wrong}", "start its worker again")
        known = self._ledger.nodes.get(node)
        fenced = known.record.incarnation not in ("", request.incarnation)
        record = self._ledger.nodes.register(node, request)
        lost = self._ledger.lose_all(node, "its node was started anew") if fenced else []
        audited = self._ledger.audited(f"node/{node}", "node.register", request.incarnation)
        await self._ledger.record(record, *lost, audited)

    async def acquire(self, node: str, request: fleet_pb2.AcquireTasksRequest) -> fleet_pb2.AcquireTasksResponse:
        """Wait up to `wait_s` for tasks that fit the node's free devices, lease them, and hand them out."""
        arrived = time.monotonic()
        deadline = arrived + min(LONGEST_POLL_S, request.wait_s)
        heard = self._ledger.nodes.heard(node, request.incarnation)
        heard.polls += 1
        poll = heard.polls
        await self._settle(node, request.last_reply, None)
        while True:
            heard = self._ledger.nodes.heard(node, request.incarnation)
            # The state may have been loaded anew meanwhile; the node's own count is as good.
            heard.replies = max(heard.replies, request.last_reply)
            chosen: list[tuple[Candidate, str]] = []
            if heard.polls != poll:  # the node has asked again since: nobody listens to this call any more
                break
            chosen = self._choose(node)
            remaining = deadline - time.monotonic()
            if chosen or remaining <= 0:
                break
            # The wait ends early at times, so that a polling node stays live whatever the lease term is.
            await self._ledger.changes.wait(min(remaining, self._ledger.leases.term_s / 3))
        heard.replies += 1
        response = fleet_pb2.AcquireTasksResponse(reply=heard.replies, waited_s=time.monotonic() - arrived)
        records: list[Record] = []
        for candidate, device in chosen:
            entry = self._ledger.jobs[candidate.job]
            needed = candidate.requirement
            records += self._ledger.change(candidate.job, Leased(candidate.task, node, device))
            response.tasks.add(
                job_id=candidate.job,
                task_id=candidate.task,
                epoch=entry.job.tasks[candidate.task].epoch,
                device=device,
                exclusive=needed.exclusive,
                cores=needed.cores,
                work=encode(entry.work(candidate.task), task_pb2.Work),
            )
        if records:
            await self._ledger.record(*records)
        return response

    def _choose(self, node: str) -> list[tuple[Candidate, str]]:
        """What each device of a node is given now; how many slots are free follows from the leases alone."""
        places, claims = self._ledger.nodes.places(), self._ledger.leases.claims()
        held = [task.device for _, task in self._ledger.leased_to(node)]
        chosen: list[tuple[Candidate, str]] = []
        for place in (place for place in places if place.node == node):
            device, domain = place.facts.device, place.facts.measurement_domain
            free = len(place.facts.slots) - held.count(device)
            if free <= 0 and any(claim.domain == domain for claim in claims):
                continue  # neither a core for a shared task nor an idle machine for an exclusive one
            taken = {(c.job, c.task) for c, _ in chosen}
            ready = [c for c in self._candidates() if (c.job, c.task) not in taken | self._resting.keys()]
            for candidate in choose(ready, place, free, claims, places):
                chosen.append((candidate, device))
                claims.append(Claim(domain, candidate.requirement.exclusive))
        return chosen

    def _candidates(self) -> list[Candidate]:
        ready = self._ledger.tasks_in(TaskState.READY)
        return [self._ledger.candidate(entry, task) for entry, task in ready if not entry.is_chore(task)]

    async def heartbeat(self, node: str, request: fleet_pb2.HeartbeatRequest) -> fleet_pb2.HeartbeatResponse:
        """Extend the leases that the node holds, end those that it does not, and name what it must stop."""
        self._ledger.nodes.heard(node, request.incarnation)
        held = {(h.job_id, h.task_id): h for h in request.held}
        response = fleet_pb2.HeartbeatResponse()
        for key, item in held.items():
            entry = self._ledger.jobs.get(item.job_id)
            task = entry.job.tasks.get(item.task_id) if entry else None
            if entry and task and task.state is TaskState.LEASED and (task.node, task.epoch) == (node, item.epoch):
                self._ledger.leases.extend(*key)
                if entry.doing.get(task.id) != (item.progress, item.doing):
                    entry.doing[task.id] = (item.progress, item.doing)
                    self._ledger.changes.notify()
            else:
                response.stop.append(item)
        if self._ledger.leases.left(node, set(held)):
            self._ledger.changes.notify()
        await self._settle(node, request.last_reply, {(job, task, h.epoch) for (job, task), h in held.items()})
        return response

    async def _settle(self, node: str, last_reply: int, held: set[tuple[str, str, int]] | None) -> None:
        """End the leases that the node cannot be holding.

        A lease of an answer after `last_reply` never arrived, if the node asks anew (`held` is None); one of an answer
        up to `last_reply` that a heartbeat does not list is not held any more.
        """
        records: list[Record] = []
        for entry, task in self._ledger.leased_to(node):
            carried = self._ledger.leases.reply(entry.record.id, task.id)
            undelivered = held is None and carried > last_reply
            dropped = held is not None and carried <= last_reply and (entry.record.id, task.id, task.epoch) not in held
            if undelivered or dropped:
                records += self._ledger.lose(entry.record.id, task, f"node {node} does not hold it")
        if records:
            await self._ledger.record(*records)

    async def complete(self, node: str, incarnation: str, job: str, task: str, epoch: int, result: Result) -> None:
        """Accept a result, once.

        Raises QuantfleetError(LEASE_STALE, RESULT_CONFLICT, ARTIFACT_NOT_FOUND), and WORKER_FAILED for a result that
        the task cannot have.
        """
        self._ledger.nodes.heard(node, incarnation)
        entry, known = self._task(job, task)
        if known.state is TaskState.LEASED:  # else it is refused anyhow, and its work may no longer be known
            check_result(entry.plan.details[task], entry.work(task), result)
        missing = [digest for digest in artifacts_of(result) if not self._stored(digest)]
        if missing:
            raise QuantfleetError(
                ErrorCode.ARTIFACT_NOT_FOUND,
                f"the result of {task} refers to artifact {missing[0]}, which is not stored",
                "upload a result's artifacts before completing its task",
            )
        digest = digest_of(result_bytes(result))
        await self._ledger.apply(entry.record.id, Completed(task, epoch, node, digest, _partial(result)), result)

    async def fail(self, node: str, request: fleet_pb2.FailRequest, failure: Failure) -> None:
        """Accept a failure. Raises QuantfleetError(LEASE_STALE)."""
        self._ledger.nodes.heard(node, request.incarnation)
        entry, task = self._task(request.job_id, request.task_id)
        attempt = self._ledger.attempt(entry.record.id, task, failure, request.log_tail)
        records = self._ledger.change(entry.record.id, Failed(task.id, request.epoch, node, failure))
        failed = self._ledger.jobs[entry.record.id].job.tasks[task.id]
        rest = rest_s(failed.infrastructure_failures)
        if failed.state is TaskState.READY and rest:
            self._resting[entry.record.id, task.id] = time.monotonic() + rest
        await self._ledger.record(*records, attempt)

    def _task(self, job: str, task: str) -> tuple[JobEntry, Task]:
        entry = self._ledger.jobs.get(job)
        found = entry.job.tasks.get(task) if entry else None
        if entry is None or found is None:
            raise QuantfleetError(ErrorCode.JOB_NOT_FOUND, f"job {job} has no task {task}", "discard this attempt")
        return entry, found

    async def lose_node(self, node: str, why: str) -> None:
        """Take back everything leased to a node that was expelled."""
        await self._ledger.record(*self._ledger.lose_all(node, why))

    async def keep_time(self) -> None:
        """For ever: take back leases whose term has run out, and give up tasks that no device came for."""
        while True:
            await asyncio.sleep(min(self._ledger.leases.term_s / 10, 1.0))
            try:
                await self._expire()
                await self._starve()
                self._wake()
            except QuantfleetError as error:
                # The store failed; the next round finds whatever this one left.
                _log.warning("keeping time: %s", error)
            except Exception:  # without this loop no lease would ever run out
                _log.exception("keeping time failed")

    def _wake(self) -> None:
        """Let tasks be leased again whose rest is over."""
        now = time.monotonic()
        rested = [key for key, until in self._resting.items() if until <= now]
        for key in rested:
            del self._resting[key]
        if rested:
            self._ledger.changes.notify()

    async def _expire(self) -> None:
        records: list[Record] = []
        for job, name in self._ledger.leases.expired():
            task = self._ledger.jobs[job].job.tasks[name]
            _log.warning("the lease of %s/%s on node %s has run out", job, name, task.node)
            why = f"node {task.node} was not heard of for {self._ledger.leases.term_s:g} s"
            records += self._ledger.lose(job, task, why)
        if records:
            await self._ledger.record(*records)

    async def _starve(self) -> None:
        places, now = self._ledger.nodes.places(), time.monotonic()
        waiting: dict[tuple[str, str], float] = {}
        records: list[Record] = []
        for candidate in self._candidates():
            if not _servable(candidate, places):
                key = (candidate.job, candidate.task)
                waiting[key] = self._unservable_since.get(key, now)
                if now - waiting[key] > self._ledger.jobs[candidate.job].spec.patience_s:
                    why = storable(reason(candidate, places, self._ledger.leases.claims()))
                    records += self._ledger.change(candidate.job, Starved(candidate.task, why))
        self._unservable_since = waiting
        if records:
            await self._ledger.record(*records)


def rest_s(failures: int) -> float:
    """How long a task rests after so many infrastructure failures, seconds: not at all after the first, then 1, 2, 4, …

    A disk that is full for a moment must not use up a task's retries within that moment.
    """
    return min(2.0 ** (failures - 2), LONGEST_REST_S) if failures > 1 else 0.0


def _servable(candidate: Candidate, places: Sequence[Place]) -> bool:
    return any(not why_not(candidate.requirement, candidate.selector, place.facts) for place in places)


def _partial(result: Result) -> bool:
    return isinstance(result, BenchmarkResult) and any(gap.applicable for gap in result.absent)


def artifacts_of(result: Result) -> list[str]:
    """The digests of every file that a result refers to."""
    found: list[str] = []

    def walk(message: object) -> None:
        fields = getattr(message, "ListFields", None)
        for field, value in fields() if fields else ():
            if field.name == "digest":
                found.append(value)
            for item in value if field.is_repeated else [value]:
                walk(item)

    walk(encode(result, task_pb2.Result))
    return found
