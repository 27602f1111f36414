"""Redeeming a token, from the new member's side. Not for making tokens (the coordinator does)."""

import asyncio
from pathlib import Path
from typing import Literal

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_protos.v1 import enrolment_pb2
from quantfleet_protos.v1.enrolment_pb2_grpc import EnrolmentStub
from quantfleet_wire.identity_files import Credentials, make_csr, pending_key, save_credentials
from quantfleet_wire.join_token import JoinToken
from quantfleet_wire.tls import aio_channel


async def redeem(text: str, directory: Path, purpose: Literal["node", "user"]) -> enrolment_pb2.JoinResponse:
    """Turn a token into credentials in `directory`; the key is made here and never leaves this host.

    A repetition after a crash sends the same key and gets the same certificate. Raises TOKEN_MALFORMED, USAGE for a
    token of the other purpose, COORDINATOR_FOREIGN before any secret is sent, and what the coordinator refuses.
    """
    token = JoinToken.decode(text)
    if token.purpose != purpose:
        command = {"node": "quantfleet worker join", "user": "quantfleet login"}[token.purpose]
        raise QuantfleetError(ErrorCode.USAGE, f"this token is for a {token.purpose}", f"redeem it with: {command}")
    key = await asyncio.to_thread(pending_key, directory)
    channel = aio_channel(Credentials(token.enrolment_address, token.ca_pem))
    try:
        response = await EnrolmentStub(channel).Join(
            enrolment_pb2.JoinRequest(token_id=token.token_id, secret=token.secret, csr=make_csr(key, purpose))
        )
    finally:
        await channel.close()
    credentials = Credentials(token.address, response.trust_bundle, response.certificate, key)
    await asyncio.to_thread(save_credentials, directory, credentials)
    return response
