"""The typed client of a coordinator: one method a call, errors as QuantfleetError. Not for showing anything."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import grpc

from quantfleet.jobfile.prepare import PreparedJob
from quantfleet.outputs import write_atomically
from quantfleet_domain.errors import Category, ErrorCode, QuantfleetError
from quantfleet_domain.reporting.report import Report
from quantfleet_protos.v1 import control_pb2, job_pb2
from quantfleet_protos.v1.artifacts_pb2_grpc import ArtifactsStub
from quantfleet_protos.v1.control_pb2_grpc import ControlStub
from quantfleet_wire.codec import encode
from quantfleet_wire.identity_files import load_credentials
from quantfleet_wire.tls import aio_channel
from quantfleet_wire.transfer import Progress, download, fetch_bytes, upload, upload_missing

if TYPE_CHECKING:
    from quantfleet_protos.v1.artifacts_pb2_grpc import ArtifactsAsyncStub
    from quantfleet_protos.v1.control_pb2_grpc import ControlAsyncStub

RECONNECT_S = 60.0
"""How long a watch looks for a coordinator that has gone before it gives up."""
_PAUSE_S = 0.5
_CALL_S = 60.0


@dataclass(frozen=True)
class FinishedReport:
    """A finished job's report: parsed, and as the bytes of report.json."""

    report: Report
    content: bytes


class Client:
    """A user's connection to a coordinator. Open it inside the event loop that uses it, as a context manager.

    Jobs are named by their identifier or a unique beginning of it. Every method raises QuantfleetError: what the
    coordinator refuses, and COORDINATOR_UNREACHABLE or the reason for which no connection came about.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._control: ControlAsyncStub = ControlStub(channel)
        self._artifacts: ArtifactsAsyncStub = ArtifactsStub(channel)

    @classmethod
    def open(cls, credentials: Path) -> Self:
        """A client with the credentials in a directory. Raises NO_CREDENTIALS, CREDENTIALS_INVALID."""
        return cls(aio_channel(load_credentials(credentials)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    # jobs

    async def submit(
        self,
        prepared: PreparedJob,
        *,
        must_be_servable: bool = False,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> control_pb2.SubmitJobResponse:
        """Upload what the coordinator lacks and submit the job; sent again after a lost answer, it stays one job.

        `must_be_servable` refuses a target that no live node can serve (TARGET_UNSERVABLE); `dry_run` only plans.
        """
        for digest, content in prepared.files.items():
            if isinstance(content, bytes):
                await upload(self._artifacts, content, digest)
        paths = {digest: path for digest, path in prepared.files.items() if isinstance(path, Path)}
        await upload_missing(self._artifacts, paths, progress)
        request = control_pb2.SubmitJobRequest(
            request_id=secrets.token_hex(16),
            spec=encode(prepared.spec, job_pb2.JobSpec),
            must_be_servable=must_be_servable,
            dry_run=dry_run,
        )
        until = time.monotonic() + RECONNECT_S
        while True:
            try:
                return await self._control.SubmitJob(request, timeout=_CALL_S)
            except QuantfleetError as error:
                await _again(error, until)

    async def job(self, job: str) -> control_pb2.GetJobResponse:
        """A job and its tasks."""
        return await self._control.GetJob(control_pb2.GetJobRequest(job_id=job), timeout=_CALL_S)

    async def jobs(self) -> list[control_pb2.JobSummary]:
        """All jobs, newest first."""
        return list((await self._control.ListJobs(control_pb2.ListJobsRequest(), timeout=_CALL_S)).jobs)

    async def watch(self, job: str, after: int = 0) -> AsyncIterator[control_pb2.WatchJobResponse]:
        """The events of a job behind the one numbered `after`, until it ends.

        A lost connection is resumed where it broke off; COORDINATOR_UNREACHABLE after a minute without one.
        """
        until = time.monotonic() + RECONNECT_S
        while True:
            try:
                request = control_pb2.WatchJobRequest(job_id=job, after=after)
                async for event in self._control.WatchJob(request):
                    after = max(after, event.sequence)
                    until = time.monotonic() + RECONNECT_S
                    yield event
                return
            except QuantfleetError as error:
                await _again(error, until)

    async def explain(self, job: str) -> list[control_pb2.Explanation]:
        """What each unfinished task of a job waits for."""
        request = control_pb2.ExplainJobRequest(job_id=job)
        return list((await self._control.ExplainJob(request, timeout=_CALL_S)).waiting)

    async def cancel(self, job: str) -> control_pb2.JobSummary:
        """End a job."""
        return (await self._control.CancelJob(control_pb2.CancelJobRequest(job_id=job), timeout=_CALL_S)).job

    async def retry(self, job: str) -> control_pb2.JobSummary:
        """Try again what did not succeed. Raises JOB_NOT_RETRYABLE."""
        return (await self._control.RetryJob(control_pb2.RetryJobRequest(job_id=job), timeout=_CALL_S)).job

    async def logs(self, job: str, task: str = "") -> list[control_pb2.AttemptLog]:
        """What failed attempts printed, oldest first; of one task, or of all."""
        request = control_pb2.GetLogsRequest(job_id=job, task_id=task)
        return list((await self._control.GetLogs(request, timeout=_CALL_S)).attempts)

    async def report(self, job: str) -> FinishedReport:
        """The report of a job. Raises REPORT_NOT_READY."""
        found = await self._control.GetReport(control_pb2.GetReportRequest(job_id=job), timeout=_CALL_S)
        content = await fetch_bytes(self._artifacts, found.report.digest)
        return FinishedReport(Report.from_json(content), content)

    async def fetch_files(self, job: str, directory: Path) -> list[Path]:
        """Write the scale tables, quantized models and raw samples of a job below `directory`; returns their paths."""
        found = await self._control.GetReport(control_pb2.GetReportRequest(job_id=job), timeout=_CALL_S)
        paths = [_inside(directory, ref.name) for ref in found.files]
        for ref, path in zip(found.files, paths, strict=True):
            await download(self._artifacts, ref.digest, path)
        return paths

    async def fetch_file(self, job: str, name: str, to: Path) -> None:
        """Write one of a job's files, named as `MODEL/scales.json`. Raises ARTIFACT_NOT_FOUND."""
        found = await self._control.GetReport(control_pb2.GetReportRequest(job_id=job), timeout=_CALL_S)
        digest = next((ref.digest for ref in found.files if ref.name == name), None)
        if digest is None:
            what = f"job {job} made no file {name}"
            todo = "see why: quantfleet job logs"
            raise QuantfleetError(ErrorCode.ARTIFACT_NOT_FOUND, what, todo)
        write_atomically(to, await fetch_bytes(self._artifacts, digest))

    # nodes and pools

    async def nodes(self) -> list[control_pb2.NodeStatus]:
        """The nodes of the fleet, by name."""
        return list((await self._control.ListNodes(control_pb2.ListNodesRequest(), timeout=_CALL_S)).nodes)

    async def cordon(self, node: str) -> None:
        """Give a node no new tasks."""
        await self._control.CordonNode(control_pb2.CordonNodeRequest(node=node), timeout=_CALL_S)

    async def uncordon(self, node: str) -> None:
        """Give a node tasks again."""
        await self._control.UncordonNode(control_pb2.UncordonNodeRequest(node=node), timeout=_CALL_S)

    async def drain(self, node: str) -> int:
        """Give a node no new tasks; returns how many it still holds."""
        return (await self._control.DrainNode(control_pb2.DrainNodeRequest(node=node), timeout=_CALL_S)).leased

    async def revoke_node(self, node: str) -> int:
        """Expel a node; returns how many certificates are refused from now on."""
        request = control_pb2.RevokeNodeRequest(node=node)
        return (await self._control.RevokeNode(request, timeout=_CALL_S)).certificates

    async def pools(self) -> list[control_pb2.Pool]:
        """The pools that targets may name, by name."""
        return list((await self._control.ListPools(control_pb2.ListPoolsRequest(), timeout=_CALL_S)).pools)

    async def put_pool(self, name: str, selector: str) -> None:
        """Define a pool. Raises JOB_INVALID naming the column where the selector is wrong."""
        request = control_pb2.PutPoolRequest(pool=control_pb2.Pool(name=name, selector=selector))
        await self._control.PutPool(request, timeout=_CALL_S)

    # members

    async def create_token(self, purpose: str, name: str, role: str, ttl_s: float) -> control_pb2.CreateTokenResponse:
        """A single-use token for a new `node` (role empty) or `user`."""
        request = control_pb2.CreateTokenRequest(purpose=purpose, name=name, role=role, ttl_s=ttl_s)
        return await self._control.CreateToken(request, timeout=_CALL_S)

    async def tokens(self) -> list[control_pb2.TokenStatus]:
        """The tokens, newest first, without their secrets."""
        return list((await self._control.ListTokens(control_pb2.ListTokensRequest(), timeout=_CALL_S)).tokens)

    async def revoke_token(self, token_id: str) -> None:
        """Make a token useless."""
        await self._control.RevokeToken(control_pb2.RevokeTokenRequest(token_id=token_id), timeout=_CALL_S)

    async def users(self) -> list[control_pb2.UserStatus]:
        """The users that hold a certificate, by name."""
        return list((await self._control.ListUsers(control_pb2.ListUsersRequest(), timeout=_CALL_S)).users)

    async def revoke_user(self, user: str) -> int:
        """Expel a user; returns how many certificates are refused from now on."""
        request = control_pb2.RevokeUserRequest(user=user)
        return (await self._control.RevokeUser(request, timeout=_CALL_S)).certificates

    async def audit(self, after: int = 0) -> list[control_pb2.AuditEntry]:
        """Who did what to the fleet, oldest first, behind the entry numbered `after`."""
        return list((await self._control.ListAudit(control_pb2.ListAuditRequest(after=after), timeout=_CALL_S)).entries)


def _inside(directory: Path, name: str) -> Path:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        what = f"the coordinator names a file outside the directory: {name!r}"
        raise QuantfleetError(ErrorCode.INTERNAL, what, "do not trust this coordinator")
    return directory / name


async def _again(error: QuantfleetError, until: float) -> None:
    """Return after a pause to try again; raise what trying again cannot mend."""
    if error.category is not Category.UNREACHABLE or time.monotonic() > until:
        raise error
    await asyncio.sleep(_PAUSE_S)
