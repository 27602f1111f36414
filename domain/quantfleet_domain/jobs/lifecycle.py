"""The life of a job's tasks: a pure machine. Events in, the new job and effects out; no clock, no I/O, no matching."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from quantfleet_domain.errors import CATALOGUE, Category, ErrorCode, QuantfleetError

INFRASTRUCTURE_RETRIES = 8
"""How often a task is leased again after its node, its lease or its store was lost."""
ENGINE_RETRIES = 1
"""How often a task is leased again after its engine crashed or failed; a second crash is the model's own."""


class TaskKind(StrEnum):
    """What a task does; `recall`, `merge`, `choose`, `settle` and `report` are done by the coordinator itself."""

    INSPECT = "inspect"
    RECALL = "recall"
    CALIBRATE = "calibrate"
    MERGE = "merge"
    SCORE = "score"
    CHOOSE = "choose"
    CORRECT = "correct"
    SETTLE = "settle"
    TRAIN = "train"
    QUANTIZE = "quantize"
    BENCHMARK = "benchmark"
    EVALUATE = "evaluate"
    REPORT = "report"


class TaskState(StrEnum):
    """Where a task is. `skipped`: something it needs did not succeed."""

    PENDING = "pending"
    READY = "ready"
    LEASED = "leased"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class JobState(StrEnum):
    """Where a job is. `partial`: it ended, and something that was asked for is absent from its report."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.SKIPPED, TaskState.CANCELLED})


@dataclass(frozen=True)
class Failure:
    """Why a task did not succeed, in the words of the error catalogue."""

    code: ErrorCode
    what: str
    todo: str


@dataclass(frozen=True)
class Task:
    """A node of the graph. `needs` must succeed before it starts; `after` must merely have ended.

    `epoch` numbers the attempts: a lease carries it, and a result under any other is refused. `result` is the digest of
    the accepted result; `partial` says that something the task was asked for is absent from it. `failed_on` is the node
    of the last attempt that failed.
    """

    id: str
    kind: TaskKind
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    state: TaskState = TaskState.PENDING
    epoch: int = 1
    node: str = ""
    device: str = ""
    infrastructure_failures: int = 0
    engine_failures: int = 0
    failed_on: str = ""
    result: str = ""
    partial: bool = False
    failure: Failure | None = None


@dataclass(frozen=True)
class Job:
    """A job's graph and the state of every task in it."""

    id: str
    tasks: Mapping[str, Task]
    state: JobState = JobState.RUNNING


@dataclass(frozen=True)
class Started:
    """The job was accepted: tasks without needs become ready."""


@dataclass(frozen=True)
class Leased:
    """A ready task was given to a node's device."""

    task: str
    node: str
    device: str


@dataclass(frozen=True)
class Completed:
    """A node reports a result under its lease's epoch. `digest` names its bytes, `partial` is as in `Task`."""

    task: str
    epoch: int
    node: str
    digest: str
    partial: bool = False


@dataclass(frozen=True)
class Failed:
    """A node reports a failure under its lease's epoch."""

    task: str
    epoch: int
    node: str
    failure: Failure


@dataclass(frozen=True)
class Lost:
    """A lease ended without a result: its term ran out, its node was fenced, drained or revoked."""

    task: str
    epoch: int
    reason: str


@dataclass(frozen=True)
class Starved:
    """No device came for a ready task within the job's patience."""

    task: str
    reason: str


@dataclass(frozen=True)
class Cancelled:
    """The user wants the job to end."""


@dataclass(frozen=True)
class Retried:
    """The user wants everything that did not succeed, or only in part, to be tried again, with fresh budgets."""


Event = Started | Leased | Completed | Failed | Lost | Starved | Cancelled | Retried


@dataclass(frozen=True)
class TaskChanged:
    """A task is not what it was; `before` is None for a new one."""

    before: Task | None
    after: Task


@dataclass(frozen=True)
class JobEnded:
    """All tasks have ended; the job's state says how."""

    state: JobState


Effect = TaskChanged | JobEnded


def step(job: Job, event: Event) -> tuple[Job, tuple[Effect, ...]]:
    """Apply one event.

    Raises QuantfleetError(LEASE_STALE) for a result, failure or loss under an epoch that is not the task's lease;
    RESULT_CONFLICT for a second, different result under the accepted epoch; JOB_NOT_RETRYABLE for a retry of a job
    that has not ended or has nothing to retry. The job is then unchanged.
    """
    tasks = dict(job.tasks)
    match event:
        case Started():
            pass
        case Leased():
            _lease(tasks, event)
        case Completed():
            if _is_repetition(tasks[event.task], event):
                return job, ()
            task = _held(tasks, event.task, event.epoch, event.node)
            tasks[task.id] = replace(
                task, state=TaskState.SUCCEEDED, result=event.digest, partial=event.partial, failure=None
            )
        case Failed():
            repeated = tasks[event.task]
            if repeated.state is TaskState.FAILED and repeated.epoch == event.epoch and repeated.node == event.node:
                return job, ()
            _fail(tasks, _held(tasks, event.task, event.epoch, event.node), event.failure)
        case Lost():
            task = _held(tasks, event.task, event.epoch, None)
            _fail(tasks, task, Failure(ErrorCode.TASK_LOST, event.reason, "see whether its node is alive: node list"))
        case Starved():
            task = tasks[event.task]
            if task.state is TaskState.READY:
                failure = Failure(
                    ErrorCode.TARGET_UNSERVABLE, event.reason, "enrol such a node, or change the job's targets"
                )
                tasks[task.id] = replace(task, state=TaskState.FAILED, failure=failure)
        case Cancelled():
            for task in job.tasks.values():
                if task.state not in ENDED:
                    tasks[task.id] = replace(task, state=TaskState.CANCELLED, epoch=task.epoch + 1)
        case Retried():
            _retry(job, tasks)
        case _:
            assert_never(event)
    _propagate(tasks)
    state = ended_state(tasks)
    changes: list[Effect] = [
        TaskChanged(job.tasks[key] if not isinstance(event, Started) else None, task)
        for key, task in tasks.items()
        if isinstance(event, Started) or (job.tasks[key] is not task and job.tasks[key] != task)
    ]
    if state is not JobState.RUNNING and job.state is JobState.RUNNING:
        changes.append(JobEnded(state))
    return replace(job, tasks=tasks, state=state), tuple(changes)


def _is_repetition(task: Task, event: Completed) -> bool:
    if task.state is not TaskState.SUCCEEDED or task.epoch != event.epoch or task.node != event.node:
        return False
    if task.result != event.digest:
        raise QuantfleetError(
            ErrorCode.RESULT_CONFLICT,
            f"task {task.id} already has another result under epoch {task.epoch}",
            "report this: one attempt must have one result",
        )
    return True


def _held(tasks: Mapping[str, Task], name: str, epoch: int, node: str | None) -> Task:
    task = tasks[name]
    if task.state is not TaskState.LEASED or task.epoch != epoch or node not in (None, task.node):
        raise QuantfleetError(
            ErrorCode.LEASE_STALE,
            f"task {name} is not leased under epoch {epoch} (it is {task.state}, epoch {task.epoch})",
            "discard this attempt; nothing is lost",
        )
    return task


def _lease(tasks: dict[str, Task], event: Leased) -> None:
    task = tasks[event.task]
    if task.state is not TaskState.READY:
        raise QuantfleetError(
            ErrorCode.LEASE_STALE, f"task {task.id} is {task.state}, not ready", "acquire another task"
        )
    tasks[task.id] = replace(task, state=TaskState.LEASED, node=event.node, device=event.device)


def _fail(tasks: dict[str, Task], task: Task, failure: Failure) -> None:
    """Give the task back while its budget lasts. A fault of the input fails at once: it would fail everywhere.

    Bytes that were damaged on their way or on a node's disk (DIGEST_MISMATCH) are no fault of the input.
    """
    infrastructure, engine = task.infrastructure_failures, task.engine_failures
    match failure.code:
        case ErrorCode.ENGINE_CRASHED | ErrorCode.ENGINE_FAILED:
            engine += 1
            again = engine <= ENGINE_RETRIES
        case _:
            infrastructure += 1
            hopeless = CATALOGUE[failure.code] is Category.BAD_INPUT and failure.code is not ErrorCode.DIGEST_MISMATCH
            again = not hopeless and infrastructure <= INFRASTRUCTURE_RETRIES
    counted = replace(
        task, infrastructure_failures=infrastructure, engine_failures=engine, failed_on=task.node, failure=failure
    )
    if again:
        tasks[task.id] = replace(counted, state=TaskState.READY, epoch=task.epoch + 1, node="", device="")
    else:
        tasks[task.id] = replace(counted, state=TaskState.FAILED)


def _retry(job: Job, tasks: dict[str, Task]) -> None:
    lost = [t for t in job.tasks.values() if t.state in ENDED and (t.partial or t.state is not TaskState.SUCCEEDED)]
    if job.state is JobState.RUNNING or not lost:
        raise QuantfleetError(
            ErrorCode.JOB_NOT_RETRYABLE,
            f"job {job.id} is {job.state}, with nothing to try again",
            "retry a job that ended failed, partial or cancelled",
        )
    fresh = Task(id="", kind=TaskKind.REPORT)
    for task in [*lost, *(t for t in job.tasks.values() if t.kind is TaskKind.REPORT)]:
        tasks[task.id] = replace(
            fresh, id=task.id, kind=task.kind, needs=task.needs, after=task.after, epoch=task.epoch + 1
        )


def _propagate(tasks: dict[str, Task]) -> None:
    """Move pending tasks on until nothing moves: ready when all needs succeeded, skipped when one cannot."""
    moved = True
    while moved:
        moved = False
        for task in list(tasks.values()):
            if task.state is not TaskState.PENDING:
                continue
            broken = next((n for n in task.needs if tasks[n].state in ENDED - {TaskState.SUCCEEDED}), None)
            if broken is not None:
                cause = tasks[broken].failure
                failure = cause or Failure(ErrorCode.TASK_CANCELLED, f"{broken} was cancelled", "retry the job")
                tasks[task.id] = replace(task, state=TaskState.SKIPPED, failure=failure)
                moved = True
            elif all(tasks[n].state is TaskState.SUCCEEDED for n in task.needs) and all(
                tasks[n].state in ENDED for n in task.after
            ):
                tasks[task.id] = replace(task, state=TaskState.READY)
                moved = True


def ended_state(tasks: Mapping[str, Task]) -> JobState:
    """The state of a job that follows from its tasks alone, so that it can never disagree with them."""
    if any(task.state not in ENDED for task in tasks.values()):
        return JobState.RUNNING
    if any(task.state is TaskState.CANCELLED for task in tasks.values()):
        return JobState.CANCELLED
    if all(_succeeded(task) and not task.partial for task in tasks.values()):
        return JobState.SUCCEEDED
    report = [t for t in tasks.values() if t.kind is TaskKind.REPORT]
    return JobState.PARTIAL if _anything_came_of(tasks) and all(_succeeded(t) for t in report) else JobState.FAILED


def _succeeded(task: Task) -> bool:
    return task.state is TaskState.SUCCEEDED


def _anything_came_of(tasks: Mapping[str, Task]) -> bool:
    """Whether one of the things that a report is for was reached: a measurement, an accuracy, or else a scale table."""
    figures = [t for t in tasks.values() if t.kind in (TaskKind.BENCHMARK, TaskKind.EVALUATE)]
    wanted = figures or [t for t in tasks.values() if t.kind is TaskKind.MERGE]
    return any(_succeeded(task) for task in wanted)
