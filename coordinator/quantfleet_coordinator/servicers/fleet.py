"""The Fleet service: what nodes call. Who calls comes from the certificate; decisions are the dispatcher's."""

from typing import Any

import grpc

from quantfleet_coordinator.enrolment.members import Members
from quantfleet_coordinator.jobs.dispatcher import Dispatcher
from quantfleet_coordinator.store.base import storable
from quantfleet_domain.errors import CATALOGUE, ErrorCode, QuantfleetError
from quantfleet_domain.jobs.lifecycle import Failure
from quantfleet_domain.jobs.task_results import Result
from quantfleet_protos.v1 import fleet_pb2, fleet_pb2_grpc
from quantfleet_wire.codec import decode_union
from quantfleet_wire.identity import current_peer

Context = grpc.aio.ServicerContext[Any, Any]


class FleetServicer(fleet_pb2_grpc.FleetServicer):
    """Decodes, asks the dispatcher, encodes."""

    def __init__(self, dispatcher: Dispatcher, members: Members, heartbeat_s: float, lease_s: float) -> None:
        self._dispatcher = dispatcher
        self._members = members
        self._heartbeat_s = heartbeat_s
        self._lease_s = lease_s

    async def Register(self, request: fleet_pb2.RegisterRequest, context: Context) -> fleet_pb2.RegisterResponse:
        """Begin a run of the node."""
        node = current_peer().name
        await self._dispatcher.register(node, request)
        return fleet_pb2.RegisterResponse(node=node, lease_s=self._lease_s, heartbeat_s=self._heartbeat_s)

    async def AcquireTasks(
        self, request: fleet_pb2.AcquireTasksRequest, context: Context
    ) -> fleet_pb2.AcquireTasksResponse:
        """Wait for tasks."""
        return await self._dispatcher.acquire(current_peer().name, request)

    async def Heartbeat(self, request: fleet_pb2.HeartbeatRequest, context: Context) -> fleet_pb2.HeartbeatResponse:
        """Extend leases."""
        return await self._dispatcher.heartbeat(current_peer().name, request)

    async def Complete(self, request: fleet_pb2.CompleteRequest, context: Context) -> fleet_pb2.CompleteResponse:
        """Accept a result."""
        if request.result.WhichOneof("result") is None:
            raise QuantfleetError(
                ErrorCode.WORKER_FAILED,
                f"the result of {request.task_id} is of no kind that this coordinator knows",
                "run one version of quantfleet on the coordinator and its nodes",
            )
        result = decode_union(request.result, Result)
        await self._dispatcher.complete(
            current_peer().name, request.incarnation, request.job_id, request.task_id, request.epoch, result
        )
        return fleet_pb2.CompleteResponse()

    async def Fail(self, request: fleet_pb2.FailRequest, context: Context) -> fleet_pb2.FailResponse:
        """Accept a failure; a code that this coordinator does not know is an internal one."""
        code = ErrorCode(request.failure.code) if request.failure.code in CATALOGUE else ErrorCode.INTERNAL
        failure = Failure(code, storable(request.failure.what), storable(request.failure.todo))
        request.log_tail = storable(request.log_tail)
        await self._dispatcher.fail(current_peer().name, request, failure)
        return fleet_pb2.FailResponse()

    async def Renew(self, request: fleet_pb2.RenewRequest, context: Context) -> fleet_pb2.RenewResponse:
        """Exchange a certificate for a new one."""
        certificate = await self._members.renew(current_peer(), request.csr)
        return fleet_pb2.RenewResponse(certificate=certificate, trust_bundle=self._members.trust_bundle)

    async def GetTrustBundle(
        self, request: fleet_pb2.GetTrustBundleRequest, context: Context
    ) -> fleet_pb2.GetTrustBundleResponse:
        """The authorities to trust."""
        return fleet_pb2.GetTrustBundleResponse(trust_bundle=self._members.trust_bundle)
