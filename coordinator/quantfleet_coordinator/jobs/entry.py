"""One job at work: its graph and results, and the records that each change leaves. No waiting, no disk."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from quantfleet_coordinator.store.records import EventRecord, JobRecord, TaskRecord
from quantfleet_domain.errors import ErrorCode
from quantfleet_domain.jobs.assignment import (
    files_of,
    is_idle,
    slices_of,
    work,
)
from quantfleet_domain.jobs.lifecycle import (
    ENDED,
    Effect,
    Event,
    Failure,
    Job,
    JobEnded,
    JobState,
    Task,
    TaskChanged,
    TaskKind,
    TaskState,
    step,
)
from quantfleet_domain.jobs.manifest import Manifest
from quantfleet_domain.jobs.plan import Plan, make_plan
from quantfleet_domain.jobs.requirements import (
    Requirement,
    requirement,
)
from quantfleet_domain.jobs.spec import FileRef, JobSpec, ModelSpec
from quantfleet_domain.jobs.task_results import (
    MergeResult,
    RecallResult,
    Result,
)
from quantfleet_domain.jobs.work import Work
from quantfleet_protos.v1 import base_pb2, control_pb2, job_pb2, task_pb2
from quantfleet_wire.codec import decode, decode_union, encode

_COORDINATOR = frozenset({TaskKind.RECALL, TaskKind.MERGE, TaskKind.CHOOSE, TaskKind.SETTLE, TaskKind.REPORT})

Record = JobRecord | TaskRecord | EventRecord


def result_bytes(result: Result) -> bytes:
    """A result as it is stored; the same result gives the same bytes."""
    return encode(result, task_pb2.Result).SerializeToString(deterministic=True)


def manifests_of(result: Result) -> tuple[FileRef, ...]:
    """The manifests that a result made, from which later tasks take their samples."""
    match result:
        case RecallResult(missing=missing):
            return (missing,)
        case MergeResult(held_back=held_back, excerpt=excerpt):
            return (held_back, excerpt)
    return ()


def digest_of(data: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(data).hexdigest()


@dataclass
class JobEntry:
    """A job at work. `record` is its durable row, `sequence` numbers its events, `doing` is what heartbeats said.

    `manifests` are by digest: those that the job names and those that its results made of them.
    """

    record: JobRecord
    spec: JobSpec
    plan: Plan
    job: Job
    manifests: dict[str, Manifest]
    results: dict[str, Result] = field(default_factory=dict)
    sequence: int = 0
    doing: dict[str, tuple[float, str]] = field(default_factory=dict)

    @staticmethod
    def create(record: JobRecord, manifests: Mapping[str, Manifest]) -> "JobEntry":
        """A job of which nothing has started."""
        spec = decode(job_pb2.JobSpec.FromString(record.spec), JobSpec)
        plan = make_plan(spec)
        return JobEntry(record, spec, plan, Job(record.id, {task.id: task for task in plan.tasks}), dict(manifests))

    @staticmethod
    def restore(
        record: JobRecord, rows: Sequence[TaskRecord], sequence: int, manifest: Callable[[str], Manifest]
    ) -> "JobEntry":
        """A job as its records left it; `manifest` reads one by its digest."""
        entry = JobEntry.create(record, {})
        data = [found for model in entry.spec.models for found in model.data_sets()]
        entry.manifests = {found.manifest.digest: manifest(found.manifest.digest) for found in data}
        entry.sequence = sequence
        tasks = dict(entry.job.tasks)
        for row in rows:
            tasks[row.id] = _restored(tasks[row.id], row)
            if row.result:
                result = decode_union(task_pb2.Result.FromString(row.result), Result)
                entry.results[row.id] = result
                entry.manifests |= {ref.digest: manifest(ref.digest) for ref in manifests_of(result)}
        entry.job = Job(record.id, tasks, JobState(record.state))
        return entry

    def apply(self, event: Event, at: float, result: Result | None = None) -> tuple[list[Record], tuple[Effect, ...]]:
        """Take one step of the lifecycle at `at` (Unix seconds); `result` comes with a `Completed` event.

        Returns the records that make it durable, and the effects. Raises as `step` does, with nothing changed.
        """
        job, effects = step(self.job, event)
        self.job = job
        records: list[Record] = []
        for effect in effects:
            self.sequence += 1
            happened = self.event(self.sequence, at)
            if isinstance(effect, TaskChanged):
                task = effect.after
                if task.state is not TaskState.SUCCEEDED:
                    self.results.pop(task.id, None)
                elif result is not None:
                    self.results[task.id] = result
                if task.state is not TaskState.LEASED:
                    self.doing.pop(task.id, None)
                happened.task.CopyFrom(self.task_status(task))
                records.append(_task_record(self.record.id, task, self.results.get(task.id)))
            records.append(EventRecord(self.record.id, self.sequence, happened.SerializeToString()))
        ended_at = at if any(isinstance(effect, JobEnded) for effect in effects) else self.record.ended_at
        record = replace(self.record, state=job.state, ended_at=ended_at if job.state is not JobState.RUNNING else 0.0)
        if record != self.record:
            self.record = record
            records.append(record)
        return records, effects

    def model_of(self, task: Task) -> ModelSpec:
        """The model that a task is for."""
        name = self.plan.details[task.id].model
        return next(model for model in self.spec.models if model.name == name)

    def is_chore(self, task: Task) -> bool:
        """Whether the coordinator does a ready task itself."""
        return task.kind in _COORDINATOR or is_idle(self.spec, self.plan.details[task.id], self.results)

    def requirement(self, task: str) -> Requirement:
        """What a device needs for a ready task."""
        return requirement(self.spec, self.plan.details[task], self.results)

    def work(self, task: str) -> Work:
        """What a worker is asked to do for a ready task."""
        return work(self.spec, self.plan.details[task], self.results)

    def pool(self, task: str) -> str:
        """The pool that a task's target names; empty for any device."""
        return self.requirement(task).pool

    def readable(self, task: str) -> frozenset[str]:
        """The digests that the holder of a task may read: its files, its manifest, its slice's samples and masks."""
        what = self.work(task)
        digests = {ref.digest for ref in files_of(what)}
        for part in slices_of(what):
            digests |= self.manifests[part.manifest.digest].digests(part.first, part.count)
        return frozenset(digests)

    def event(self, sequence: int, at: float) -> control_pb2.WatchJobResponse:
        """What watchers are told of the job as it is now; `sequence` is 0 for mere progress."""
        return control_pb2.WatchJobResponse(
            sequence=sequence, at=at, state=self.job.state, tasks=len(self.job.tasks), ended_tasks=self._ended()
        )

    def summary(self) -> control_pb2.JobSummary:
        """The job for a user, without its tasks."""
        return control_pb2.JobSummary(
            job_id=self.record.id,
            name=self.record.name,
            state=self.job.state,
            user=self.record.user,
            created_at=self.record.created_at,
            ended_at=self.record.ended_at,
            tasks=len(self.job.tasks),
            ended_tasks=self._ended(),
        )

    def task_status(self, task: Task) -> control_pb2.TaskStatus:
        """One task for a user."""
        progress, doing = self.doing.get(task.id, (0.0, ""))
        status = control_pb2.TaskStatus(
            task_id=task.id,
            kind=task.kind,
            state=task.state,
            epoch=task.epoch,
            node=task.node,
            device=task.device,
            progress=progress,
            doing=doing,
        )
        if task.failure:
            status.failure.CopyFrom(encode(task.failure, base_pb2.Failure))
        return status

    def _ended(self) -> int:
        return sum(task.state in ENDED for task in self.job.tasks.values())


def _restored(planned: Task, row: TaskRecord) -> Task:
    failure = Failure(ErrorCode(row.failure_code), row.failure_what, row.failure_todo) if row.failure_code else None
    return replace(
        planned,
        state=TaskState(row.state),
        epoch=row.epoch,
        node=row.node,
        device=row.device,
        infrastructure_failures=row.infrastructure_failures,
        engine_failures=row.engine_failures,
        failed_on=row.failed_on,
        result=row.result_digest,
        partial=row.partial,
        failure=failure,
    )


def _task_record(job: str, task: Task, result: Result | None) -> TaskRecord:
    succeeded = task.state is TaskState.SUCCEEDED and result is not None
    return TaskRecord(
        job_id=job,
        id=task.id,
        state=task.state,
        epoch=task.epoch,
        node=task.node,
        device=task.device,
        infrastructure_failures=task.infrastructure_failures,
        engine_failures=task.engine_failures,
        failed_on=task.failed_on,
        partial=task.partial,
        result_digest=task.result if succeeded else "",
        result=result_bytes(result) if succeeded and result is not None else b"",
        failure_code=task.failure.code if task.failure else "",
        failure_what=task.failure.what if task.failure else "",
        failure_todo=task.failure.todo if task.failure else "",
    )
