"""What users ask about jobs: submit, watch, explain, cancel, retry. Not for what nodes ask (dispatcher)."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping

from quantfleet_coordinator.jobs.entry import JobEntry, digest_of
from quantfleet_coordinator.jobs.ledger import Ledger
from quantfleet_coordinator.store.base import Store
from quantfleet_coordinator.store.records import AttemptRecord, EventRecord, JobRecord
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.lifecycle import ENDED, Cancelled, JobState, Retried, Started, Task, TaskKind, TaskState
from quantfleet_domain.jobs.manifest import Manifest
from quantfleet_domain.jobs.placement import reason, why_not
from quantfleet_domain.jobs.settling import settled
from quantfleet_domain.jobs.spec import JobSpec, model_sha256
from quantfleet_domain.jobs.validation import is_readable, validate
from quantfleet_protos.v1 import control_pb2, job_pb2
from quantfleet_wire.codec import encode

PROGRESS_EVERY_S = 0.5
FEW_EVENTS = 32
_KNOWN_BEFORE = (TaskKind.INSPECT, TaskKind.TRAIN, TaskKind.QUANTIZE)
"""Tasks besides measurements whose requirements depend on no result."""


class Desk:
    """Takes jobs in and says how they are."""

    def __init__(
        self, ledger: Ledger, store: Store, stored: Callable[[str], bool], read: Callable[[str], bytes]
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._stored = stored
        self._read = read

    async def submit(self, user: str, spec: JobSpec, request_id: str, must_be_servable: bool) -> JobEntry:
        """Accept a job; the same request gives the same job again.

        Raises USAGE without a request id, REQUEST_REUSED for another job under a known request, JOB_INVALID,
        POOL_NOT_FOUND, ARTIFACT_NOT_FOUND for what was not uploaded, SCALES_INVALID for a table of another model, and
        TARGET_UNSERVABLE where that is asked for.
        """
        if not request_id or not is_readable(request_id):
            raise QuantfleetError(ErrorCode.USAGE, "the request has no proper id", "choose a random one for each job")
        digest = digest_of(encode(spec, job_pb2.JobSpec).SerializeToString(deterministic=True))
        if known := self._requested(request_id):
            return await self._again(known, user, digest)
        entry = await self._prepare(user, spec, request_id, digest, must_be_servable)
        # Two tries of one request may have prepared side by side; the first to get here is the job.
        if known := self._requested(request_id):
            return await self._again(known, user, digest)
        # Nothing is awaited from here on, so that what is stored now cannot be collected before the job refers to it.
        self._require(entry.spec.inputs(), "the job")
        for manifest in entry.manifests.values():
            self._require(manifest.digests(), "the job's manifest")
        self._ledger.jobs[entry.record.id] = entry
        audited = self._ledger.audited(f"user/{user}", "job.submit", entry.record.id)
        await self._ledger.apply(entry.record.id, Started(), None, (entry.record, audited))
        return entry

    def _requested(self, request_id: str) -> JobEntry | None:
        return next((e for e in self._ledger.jobs.values() if e.record.request_id == request_id), None)

    async def _again(self, known: JobEntry, user: str, digest: str) -> JobEntry:
        if (known.record.user, known.record.request_digest) != (user, digest):
            raise QuantfleetError(
                ErrorCode.REQUEST_REUSED, "this request id belongs to another job", "submit with a fresh request id"
            )
        await self._ledger.record()
        return known

    async def plan(self, user: str, spec: JobSpec, must_be_servable: bool) -> JobEntry:
        """What `submit` would accept, without accepting it."""
        return await self._prepare(user, spec, "", "", must_be_servable)

    async def _prepare(
        self, user: str, spec: JobSpec, request_id: str, digest: str, must_be_servable: bool
    ) -> JobEntry:
        validate(spec)
        self._check_pools(spec)
        manifests = await asyncio.to_thread(self._check_inputs, spec)
        places = self._ledger.nodes.places()
        slots = sum(len(place.facts.slots) for place in places)

        def engines(pool: str) -> set[str]:
            selector = self._ledger.selectors.get(pool) if pool else None
            chosen = [place.facts for place in places if selector is None or selector.matches(place.facts)]
            return {engine.name for facts in chosen for engine in facts.engines if engine.available}

        record = JobRecord(
            id=secrets.token_hex(6),
            request_id=request_id,
            request_digest=digest,
            name=spec.name,
            user=user,
            spec=encode(settled(spec, slots, engines), job_pb2.JobSpec).SerializeToString(deterministic=True),
            state=JobState.RUNNING,
            created_at=time.time(),
            ended_at=0.0,
        )
        entry = JobEntry.create(record, manifests)
        if must_be_servable:
            self._check_servable(entry)
        return entry

    def _check_pools(self, spec: JobSpec) -> None:
        for target in (t for model in spec.models for t in model.targets):
            if target.pool and target.pool not in self._ledger.selectors:
                raise QuantfleetError(
                    ErrorCode.POOL_NOT_FOUND,
                    f"no pool is called {target.pool!r}",
                    f"use one of {', '.join(sorted(self._ledger.selectors))}, or define it: quantfleet pool put",
                )

    def _check_inputs(self, spec: JobSpec) -> Mapping[str, Manifest]:
        """Everything the job names is stored; returns its manifests by digest."""
        self._require(spec.inputs(), "the job")
        manifests: dict[str, Manifest] = {}
        for model in spec.models:
            for data in model.data_sets():
                if data.manifest.digest not in manifests:
                    manifest = Manifest.from_json(self._read(data.manifest.digest))
                    if len(manifest.samples) != data.samples:
                        raise QuantfleetError(
                            ErrorCode.JOB_INVALID,
                            f"{data.manifest.name} lists {len(manifest.samples)} samples, the job {data.samples}",
                            "submit the job again",
                        )
                    self._require(manifest.digests(), f"manifest {data.manifest.name}")
                    manifests[data.manifest.digest] = manifest
            if model.calibration and model.calibration.scales:
                table = ScaleTable.from_json(self._read(model.calibration.scales.digest))
                table.require_model(model_sha256(model.files), model.name)
        return manifests

    def _require(self, digests: frozenset[str] | set[str], where: str) -> None:
        missing = [digest for digest in digests if not self._stored(digest)]
        if missing:
            raise QuantfleetError(
                ErrorCode.ARTIFACT_NOT_FOUND,
                f"{where} names {len(missing)} file(s) that are not stored, such as {missing[0]}",
                "upload a job's files before submitting it",
            )

    def _check_servable(self, entry: JobEntry) -> None:
        """Every task whose needs are known before any work can be served by some live device: calibration alone waits
        for its numerics class, and what inspects a model can calibrate it."""
        places = self._ledger.nodes.places()
        for name, detail in entry.plan.details.items():
            if not detail.engine and detail.kind not in _KNOWN_BEFORE:
                continue
            needed = entry.requirement(name)
            selector = self._ledger.selectors.get(needed.pool) if needed.pool else None
            reasons = [f"{p.node}/{why_not(needed, selector, p.facts)}" for p in places]
            if all(why_not(needed, selector, p.facts) for p in places):
                raise QuantfleetError(
                    ErrorCode.TARGET_UNSERVABLE,
                    f"no device here can serve {name}: {'; '.join(reasons) or 'no live node'}",
                    "mend that where it is told, change the job's targets, or enrol a node that has it",
                )

    async def cancel(self, user: str, job: str) -> JobEntry:
        """End a job; a job that has ended stays as it is."""
        entry = self._ledger.find(job)
        audited = self._ledger.audited(f"user/{user}", "job.cancel", entry.record.id)
        await self._ledger.apply(entry.record.id, Cancelled(), None, (audited,))
        return entry

    async def retry(self, user: str, job: str) -> JobEntry:
        """Try again what did not succeed. Raises JOB_NOT_RETRYABLE."""
        entry = self._ledger.find(job)
        records = self._ledger.change(entry.record.id, Retried())
        await self._ledger.record(*records, self._ledger.audited(f"user/{user}", "job.retry", entry.record.id))
        return entry

    async def watch(self, job: str, after: int) -> AsyncIterator[control_pb2.WatchJobResponse]:
        """The events of a job from the one behind `after`, as they come, until it has ended; progress between them."""
        job = self._ledger.find(job).record.id
        told: dict[str, tuple[float, str]] = {}
        while True:
            entry = self._ledger.find(job)  # the state may have been loaded anew
            ended = entry.job.state is not JobState.RUNNING
            if entry.sequence > after:
                for event in await asyncio.to_thread(self._events, job, after, entry.sequence):
                    after = event.sequence
                    yield control_pb2.WatchJobResponse.FromString(event.event)
            if ended and after >= entry.sequence:
                return
            for name, doing in list(entry.doing.items()):
                if told.get(name) != doing:
                    told[name] = doing
                    progress = entry.event(0, time.time())
                    progress.task.CopyFrom(entry.task_status(entry.job.tasks[name]))
                    yield progress
            if not ended:
                await self._ledger.changes.wait(PROGRESS_EVERY_S)

    def _events(self, job: str, after: int, last: int) -> list[EventRecord]:
        """The durable events behind `after`: few by key, so that a watched job is not read whole at each change."""
        if last - after > FEW_EVENTS:
            return [event for event in self._store.where(EventRecord, job_id=job) if event.sequence > after]
        found: list[EventRecord] = []
        for sequence in range(after + 1, last + 1):
            event = self._store.get(EventRecord, job, sequence)
            if event is None:  # not durable yet; the next may become so before it is looked for
                break
            found.append(event)
        return found

    def explain(self, job: str) -> list[control_pb2.Explanation]:
        """What each unfinished task waits for."""
        entry = self._ledger.find(job)
        return [
            control_pb2.Explanation(task_id=task.id, state=task.state, reason=self._reason(entry, task))
            for task in entry.job.tasks.values()
            if task.state not in ENDED
        ]

    def _reason(self, entry: JobEntry, task: Task) -> str:
        match task.state:
            case TaskState.LEASED:
                doing = entry.doing.get(task.id, (0.0, ""))[1]
                return f"{task.node}/{task.device} is at work on it" + (f": {doing}" if doing else "")
            case TaskState.READY if entry.is_chore(task):
                return "the coordinator is at work on it"
            case TaskState.READY:
                candidate = self._ledger.candidate(entry, task)
                return reason(candidate, self._ledger.nodes.places(), self._ledger.leases.claims())
            case _:
                waiting = [n for n in (*task.needs, *task.after) if entry.job.tasks[n].state not in ENDED]
                more = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
                return f"it comes after {', '.join(waiting[:3])}{more}"

    async def logs(self, job: str, task: str) -> list[AttemptRecord]:
        """What failed attempts printed, oldest first."""
        entry = self._ledger.find(job)
        rows = await asyncio.to_thread(self._store.where, AttemptRecord, job_id=entry.record.id)
        return sorted((row for row in rows if task in ("", row.task_id)), key=lambda row: row.at)
