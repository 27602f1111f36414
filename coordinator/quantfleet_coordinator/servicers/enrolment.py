"""The Enrolment service: the one call without a client certificate. Not for the rules of tokens."""

import time

import grpc

from quantfleet_coordinator.enrolment.members import Members
from quantfleet_coordinator.enrolment.ratelimit import RateLimit
from quantfleet_protos.v1 import enrolment_pb2, enrolment_pb2_grpc

Context = grpc.aio.ServicerContext[enrolment_pb2.JoinRequest, enrolment_pb2.JoinResponse]


class EnrolmentServicer(enrolment_pb2_grpc.EnrolmentServicer):
    """Decodes, asks `Members`, encodes."""

    def __init__(self, members: Members, limit: RateLimit) -> None:
        self._members = members
        self._limit = limit

    async def Join(self, request: enrolment_pb2.JoinRequest, context: Context) -> enrolment_pb2.JoinResponse:
        """Redeem a token for a certificate."""
        self._limit.check(context.peer(), time.monotonic())
        token, certificate = await self._members.join(request.token_id, request.secret, request.csr)
        return enrolment_pb2.JoinResponse(
            certificate=certificate,
            trust_bundle=self._members.trust_bundle,
            name=token.name,
            fleet=self._members.fleet,
        )
