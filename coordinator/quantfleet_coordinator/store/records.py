"""What the store keeps: one frozen record a thing. Fields are plain; `KEY` names the primary key.

Not for behaviour: the rules are in the domain, the order of writing in the dispatcher.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class JobRecord:
    """A job. `spec` is a serialised quantfleet.v1.JobSpec with settled shards; times are Unix seconds."""

    KEY: ClassVar[tuple[str, ...]] = ("id",)
    id: str
    request_id: str
    request_digest: str
    name: str
    user: str
    spec: bytes
    state: str
    created_at: float
    ended_at: float


@dataclass(frozen=True)
class TaskRecord:
    """A task's state. `result` is a serialised quantfleet.v1.Result (empty before), `result_digest` its SHA-256."""

    KEY: ClassVar[tuple[str, ...]] = ("job_id", "id")
    job_id: str
    id: str
    state: str
    epoch: int
    node: str
    device: str
    infrastructure_failures: int
    engine_failures: int
    failed_on: str
    partial: bool
    result_digest: str
    result: bytes
    failure_code: str
    failure_what: str
    failure_todo: str


@dataclass(frozen=True)
class EventRecord:
    """Something that happened in a job. `event` is a serialised quantfleet.v1.WatchJobResponse."""

    KEY: ClassVar[tuple[str, ...]] = ("job_id", "sequence")
    job_id: str
    sequence: int
    event: bytes


@dataclass(frozen=True)
class AttemptRecord:
    """A failed attempt, and the last lines of what it printed."""

    KEY: ClassVar[tuple[str, ...]] = ("job_id", "task_id", "epoch")
    job_id: str
    task_id: str
    epoch: int
    node: str
    at: float
    failure_code: str
    failure_what: str
    failure_todo: str
    log_tail: str


@dataclass(frozen=True)
class NodeRecord:
    """An enrolled node. `facts` is a serialised quantfleet.v1.RegisterRequest (empty before it first registered).

    `standing` is `in-service`, `cordoned`, `draining` or `revoked`.
    """

    KEY: ClassVar[tuple[str, ...]] = ("name",)
    name: str
    standing: str
    incarnation: str
    facts: bytes


@dataclass(frozen=True)
class PoolRecord:
    """A named selector over device facts."""

    KEY: ClassVar[tuple[str, ...]] = ("name",)
    name: str
    selector: str


@dataclass(frozen=True)
class AuditRecord:
    """Who did what; never changed, never deleted."""

    KEY: ClassVar[tuple[str, ...]] = ("sequence",)
    sequence: int
    at: float
    actor: str
    action: str
    subject: str


@dataclass(frozen=True)
class ArtifactRecord:
    """An artifact that is stored whole and verified."""

    KEY: ClassVar[tuple[str, ...]] = ("digest",)
    digest: str
    size: int
    created_at: float
