"""The Control service: what users call. Who calls comes from the certificate; decisions are made elsewhere."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

from quantfleet_coordinator import nodes as standings
from quantfleet_coordinator.enrolment.members import Members
from quantfleet_coordinator.enrolment.records import CertificateRecord, TokenRecord
from quantfleet_coordinator.jobs.desk import Desk
from quantfleet_coordinator.jobs.dispatcher import Dispatcher
from quantfleet_coordinator.jobs.entry import JobEntry
from quantfleet_coordinator.jobs.ledger import Ledger
from quantfleet_coordinator.servicers.delivery import delivered_files
from quantfleet_coordinator.store.base import Store
from quantfleet_coordinator.store.records import AuditRecord
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.spec import JobSpec
from quantfleet_domain.jobs.task_results import ReportResult
from quantfleet_domain.jobs.validation import is_readable
from quantfleet_protos.v1 import base_pb2, control_pb2, control_pb2_grpc
from quantfleet_wire.codec import decode, encode
from quantfleet_wire.identity import NAME, Kind, Role, current_peer

Context = grpc.aio.ServicerContext[Any, Any]
_SERVICE = "/quantfleet.v1.Control/"
ROLES = {
    **{
        f"{_SERVICE}{name}": Role.VIEWER
        for name in (
            "GetJob",
            "ListJobs",
            "WatchJob",
            "ExplainJob",
            "GetLogs",
            "GetReport",
            "ListNodes",
            "ListPools",
        )
    },
    **{f"{_SERVICE}{name}": Role.SUBMITTER for name in ("SubmitJob", "CancelJob", "RetryJob")},
    "/quantfleet.v1.Artifacts/Upload": Role.SUBMITTER,
}
"""The least role of each call; every other call of this service needs an admin, of Artifacts a viewer."""


class ControlServicer(control_pb2_grpc.ControlServicer):
    """Decodes, asks, encodes."""

    def __init__(self, ledger: Ledger, desk: Desk, dispatcher: Dispatcher, members: Members, store: Store) -> None:
        self._ledger = ledger
        self._desk = desk
        self._dispatcher = dispatcher
        self._members = members
        self._store = store

    async def SubmitJob(self, request: control_pb2.SubmitJobRequest, context: Context) -> control_pb2.SubmitJobResponse:
        """Accept a job, or only plan it."""
        spec, user = decode(request.spec, JobSpec), current_peer().name
        if request.dry_run:
            entry = await self._desk.plan(user, spec, request.must_be_servable)
            return control_pb2.SubmitJobResponse(tasks=_tasks(entry))
        entry = await self._desk.submit(user, spec, request.request_id, request.must_be_servable)
        return control_pb2.SubmitJobResponse(job_id=entry.record.id, tasks=_tasks(entry))

    async def GetJob(self, request: control_pb2.GetJobRequest, context: Context) -> control_pb2.GetJobResponse:
        """The state of one job."""
        entry = self._ledger.find(request.job_id)
        return control_pb2.GetJobResponse(job=entry.summary(), tasks=_tasks(entry))

    async def ListJobs(self, request: control_pb2.ListJobsRequest, context: Context) -> control_pb2.ListJobsResponse:
        """All jobs, newest first."""
        return control_pb2.ListJobsResponse(jobs=[e.summary() for e in reversed(self._ledger.jobs.values())])

    async def WatchJob(
        self, request: control_pb2.WatchJobRequest, context: Context
    ) -> AsyncIterator[control_pb2.WatchJobResponse]:
        """Events until the job has ended."""
        async for event in self._desk.watch(request.job_id, request.after):
            yield event

    async def ExplainJob(
        self, request: control_pb2.ExplainJobRequest, context: Context
    ) -> control_pb2.ExplainJobResponse:
        """What each unfinished task waits for."""
        return control_pb2.ExplainJobResponse(waiting=self._desk.explain(request.job_id))

    async def CancelJob(self, request: control_pb2.CancelJobRequest, context: Context) -> control_pb2.CancelJobResponse:
        """End a job."""
        entry = await self._desk.cancel(current_peer().name, request.job_id)
        return control_pb2.CancelJobResponse(job=entry.summary())

    async def RetryJob(self, request: control_pb2.RetryJobRequest, context: Context) -> control_pb2.RetryJobResponse:
        """Try again what did not succeed."""
        entry = await self._desk.retry(current_peer().name, request.job_id)
        return control_pb2.RetryJobResponse(job=entry.summary())

    async def GetLogs(self, request: control_pb2.GetLogsRequest, context: Context) -> control_pb2.GetLogsResponse:
        """What failed attempts printed."""
        rows = await self._desk.logs(request.job_id, request.task_id)
        response = control_pb2.GetLogsResponse()
        for row in rows:
            failure = base_pb2.Failure(code=row.failure_code, what=row.failure_what, todo=row.failure_todo)
            response.attempts.add(
                task_id=row.task_id, epoch=row.epoch, node=row.node, at=row.at, failure=failure, log_tail=row.log_tail
            )
        return response

    async def GetReport(self, request: control_pb2.GetReportRequest, context: Context) -> control_pb2.GetReportResponse:
        """The finished report, and the files that it speaks of."""
        entry = self._ledger.find(request.job_id)
        result = entry.results.get("report")
        if not isinstance(result, ReportResult):
            raise QuantfleetError(
                ErrorCode.REPORT_NOT_READY,
                f"job {entry.record.id} is {entry.job.state} and has no report",
                "watch it: quantfleet job watch",
            )
        files = [encode(ref, base_pb2.FileRef) for ref in delivered_files(entry)]
        return control_pb2.GetReportResponse(report=encode(result.report, base_pb2.FileRef), files=files)

    async def ListNodes(self, request: control_pb2.ListNodesRequest, context: Context) -> control_pb2.ListNodesResponse:
        """The nodes of the fleet."""
        nodes = self._ledger.nodes
        return control_pb2.ListNodesResponse(
            nodes=[nodes.status(node, len(self._ledger.leased_to(node.name))) for node in nodes]
        )

    async def CordonNode(
        self, request: control_pb2.CordonNodeRequest, context: Context
    ) -> control_pb2.CordonNodeResponse:
        """Give a node no new tasks."""
        await self._stand(request.node, standings.CORDONED, "node.cordon")
        return control_pb2.CordonNodeResponse()

    async def UncordonNode(
        self, request: control_pb2.UncordonNodeRequest, context: Context
    ) -> control_pb2.UncordonNodeResponse:
        """Give it tasks again."""
        await self._stand(request.node, standings.IN_SERVICE, "node.uncordon")
        return control_pb2.UncordonNodeResponse()

    async def DrainNode(self, request: control_pb2.DrainNodeRequest, context: Context) -> control_pb2.DrainNodeResponse:
        """Give it no new tasks, and say what it still holds."""
        await self._stand(request.node, standings.DRAINING, "node.drain")
        return control_pb2.DrainNodeResponse(leased=len(self._ledger.leased_to(request.node)))

    async def RevokeNode(
        self, request: control_pb2.RevokeNodeRequest, context: Context
    ) -> control_pb2.RevokeNodeResponse:
        """Expel a node."""
        self._ledger.nodes.get(request.node)
        count = await self._members.revoke(_actor(), "node", request.node)
        await self._dispatcher.lose_node(request.node, "its node was revoked")
        return control_pb2.RevokeNodeResponse(certificates=count)

    async def CreateToken(
        self, request: control_pb2.CreateTokenRequest, context: Context
    ) -> control_pb2.CreateTokenResponse:
        """Make a single-use token."""
        role = Role.named(request.role) if request.role else None
        if request.purpose not in ("node", "user"):
            what = f"a token is for a node or a user, not for {request.purpose!r}"
            raise QuantfleetError(ErrorCode.USAGE, what, "say which")
        purpose: Kind = "user" if request.purpose == "user" else "node"
        record, token = await self._members.create_token(_actor(), purpose, request.name, role, request.ttl_s)
        return control_pb2.CreateTokenResponse(token=token, token_id=record.id, expires_at=record.expires_at)

    async def ListTokens(
        self, request: control_pb2.ListTokensRequest, context: Context
    ) -> control_pb2.ListTokensResponse:
        """The tokens, without their secrets."""
        return control_pb2.ListTokensResponse(tokens=[_token(record) for record in self._members.tokens()])

    async def RevokeToken(
        self, request: control_pb2.RevokeTokenRequest, context: Context
    ) -> control_pb2.RevokeTokenResponse:
        """Make a token useless."""
        await self._members.revoke_token(_actor(), request.token_id)
        return control_pb2.RevokeTokenResponse()

    async def ListUsers(self, request: control_pb2.ListUsersRequest, context: Context) -> control_pb2.ListUsersResponse:
        """The users that hold a certificate."""
        return control_pb2.ListUsersResponse(users=[_user(record) for record in self._members.users()])

    async def RevokeUser(
        self, request: control_pb2.RevokeUserRequest, context: Context
    ) -> control_pb2.RevokeUserResponse:
        """Expel a user."""
        count = await self._members.revoke(_actor(), "user", request.user)
        return control_pb2.RevokeUserResponse(certificates=count)

    async def ListPools(self, request: control_pb2.ListPoolsRequest, context: Context) -> control_pb2.ListPoolsResponse:
        """The pools."""
        pools = sorted(self._ledger.pools.items())
        return control_pb2.ListPoolsResponse(pools=[control_pb2.Pool(name=n, selector=s) for n, s in pools])

    async def PutPool(self, request: control_pb2.PutPoolRequest, context: Context) -> control_pb2.PutPoolResponse:
        """Define a pool."""
        if not NAME.fullmatch(request.pool.name) or not is_readable(request.pool.selector):
            what = f"{request.pool.name!r} is no name for a pool, or its selector cannot be read"
            raise QuantfleetError(ErrorCode.USAGE, what, "use letters, digits, '.', '_' and '-'")
        record = self._ledger.put_pool(request.pool.name, request.pool.selector)
        await self._ledger.record(record, self._ledger.audited(_actor(), "pool.put", record.name))
        return control_pb2.PutPoolResponse()

    async def ListAudit(self, request: control_pb2.ListAuditRequest, context: Context) -> control_pb2.ListAuditResponse:
        """Who did what, oldest first."""
        rows = await asyncio.to_thread(self._store.all, AuditRecord)
        entries = [
            control_pb2.AuditEntry(sequence=r.sequence, at=r.at, actor=r.actor, action=r.action, subject=r.subject)
            for r in rows
            if r.sequence > request.after
        ]
        return control_pb2.ListAuditResponse(entries=entries)

    async def _stand(self, node: str, standing: str, action: str) -> None:
        record = self._ledger.nodes.stand(node, standing)
        await self._ledger.record(record, self._ledger.audited(_actor(), action, node))


def _actor() -> str:
    peer = current_peer()
    return f"{peer.kind}/{peer.name}"


def _tasks(entry: JobEntry) -> list[control_pb2.TaskStatus]:
    return [entry.task_status(task) for task in entry.job.tasks.values()]


def _token(record: TokenRecord) -> control_pb2.TokenStatus:
    expired = record.expires_at <= time.time()
    state = "revoked" if record.revoked else "used" if record.redeemed_by else "expired" if expired else "open"
    return control_pb2.TokenStatus(
        token_id=record.id,
        purpose=record.purpose,
        name=record.name,
        role=record.role,
        state=state,
        expires_at=record.expires_at,
    )


def _user(record: CertificateRecord) -> control_pb2.UserStatus:
    state = "revoked" if record.revoked else "active" if record.not_after > time.time() else "expired"
    return control_pb2.UserStatus(name=record.name, role=record.role, state=state, expires_at=record.not_after)
