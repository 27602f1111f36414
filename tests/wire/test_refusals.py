"""Who a caller is comes from its certificate; each way of not being let in has an error of its own."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.wire.pki import Fleet, Served, Services, answer, in_a_loop, serving

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.identity import Role, current_peer, parse_peer
from quantfleet_wire.identity_files import Credentials
from quantfleet_wire.tls import aio_channel, channel

FLEET, CONTROL, ARTIFACTS = "quantfleet.v1.Fleet", "quantfleet.v1.Control", "quantfleet.v1.Artifacts"
DAY_S = 86_400.0


async def whoami(request: bytes, context: Any) -> bytes:
    await asyncio.sleep(0)
    peer = current_peer()
    return f"{peer.kind}/{peer.name}/{peer.role}".encode()


async def long_poll(request: bytes, context: Any) -> bytes:
    await asyncio.Event().wait()
    return b""


async def watch(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield current_peer().name.encode()
    await asyncio.Event().wait()


SERVICES: Services = {
    FLEET: {"Who": answer(whoami), "Poll": answer(long_poll)},
    CONTROL: {
        "Who": answer(whoami),
        "Submit": answer(whoami),
        "Unlisted": answer(whoami),
        "Watch": grpc.unary_stream_rpc_method_handler(watch),
    },
    ARTIFACTS: {"Who": answer(whoami)},
    "quantfleet.v1.Unknown": {"Who": answer(whoami)},
}
ROLES = {
    f"/{CONTROL}/Who": Role.VIEWER,
    f"/{CONTROL}/Watch": Role.VIEWER,
    f"/{CONTROL}/Submit": Role.SUBMITTER,
}


async def call(served: Served, credentials: Credentials, method: str, metadata: Any = None) -> str:
    async with aio_channel(served.to(credentials)) as made:
        reply: bytes = await made.unary_unary(method)(b"", metadata=metadata)
        return reply.decode()


async def refusal(served: Served, credentials: Credentials, method: str = f"/{FLEET}/Who") -> ErrorCode:
    with pytest.raises(QuantfleetError) as caught:
        await call(served, credentials, method)
    assert caught.value.what
    assert caught.value.todo
    return caught.value.code


@in_a_loop
async def test_the_caller_is_who_its_certificate_says(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    async with serving(fleet, SERVICES, roles=ROLES) as served:
        assert await call(served, fleet.node("t4-01"), f"/{FLEET}/Who") == "node/t4-01/None"
        submitter = fleet.user("ada", Role.SUBMITTER)
        claims = (("role", "admin"), ("x-forwarded-client-cert", "node/t4-01"))
        assert await call(served, submitter, f"/{CONTROL}/Submit", claims) == "user/ada/submitter"
        assert await call(served, fleet.node("t4-01"), f"/{ARTIFACTS}/Who") == "node/t4-01/None"


@in_a_loop
async def test_calls_at_the_same_time_do_not_mix_their_callers(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    names = [f"n{index}" for index in range(8)]
    async with serving(fleet, SERVICES, roles=ROLES) as served:
        replies = await asyncio.gather(*(call(served, fleet.node(name), f"/{FLEET}/Who") for name in names))
    assert replies == [f"node/{name}/None" for name in names]


@in_a_loop
async def test_a_caller_without_a_certificate_is_told_so(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    async with serving(fleet, SERVICES) as served:
        assert await refusal(served, fleet.stranger()) is ErrorCode.CERTIFICATE_REQUIRED


@pytest.mark.parametrize("name", ["acme", "other"])
@in_a_loop
async def test_a_certificate_of_another_fleet_is_foreign_even_if_it_has_the_same_name(
    tmp_path: Path, name: str
) -> None:
    ours, theirs = Fleet(tmp_path / "ours"), Fleet(tmp_path / "theirs", name)
    intruder = dataclasses.replace(theirs.node(), ca_pem=ours.authority.bundle_pem)
    async with serving(ours, SERVICES) as served:
        assert await refusal(served, intruder) is ErrorCode.CERTIFICATE_FOREIGN


@in_a_loop
async def test_a_coordinator_of_another_fleet_is_foreign(tmp_path: Path) -> None:
    ours, theirs = Fleet(tmp_path / "ours"), Fleet(tmp_path / "theirs")
    async with serving(theirs, SERVICES) as served:
        assert await refusal(served, ours.node()) is ErrorCode.COORDINATOR_FOREIGN


@in_a_loop
async def test_a_node_cannot_pose_as_the_coordinator(tmp_path: Path) -> None:
    fleet, node = Fleet(tmp_path), Fleet(tmp_path).node()
    server = grpc.aio.server()
    credentials = grpc.ssl_server_credentials([(node.key_pem, node.certificate_pem)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    with pytest.raises(QuantfleetError) as caught:
        async with aio_channel(dataclasses.replace(fleet.stranger(), address=f"127.0.0.1:{port}")) as made:
            await made.unary_unary(f"/{FLEET}/Who")(b"")
    await server.stop(0)
    assert caught.value.code is ErrorCode.COORDINATOR_FOREIGN


@in_a_loop
async def test_the_coordinators_own_certificate_is_nobodys(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    identity = fleet.authority.issue_server()
    posing = Credentials("", fleet.authority.bundle_pem, identity.certificate_pem, identity.key_pem)
    async with serving(fleet, SERVICES) as served:
        assert await refusal(served, posing) is ErrorCode.CERTIFICATE_FOREIGN


@in_a_loop
async def test_an_expired_certificate_is_expired(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    old = Fleet(tmp_path, clock=lambda: time.time() - 2 * DAY_S).node()
    async with serving(fleet, SERVICES) as served:
        assert await refusal(served, old) is ErrorCode.CERTIFICATE_EXPIRED


@in_a_loop
async def test_a_connection_that_outlives_its_certificate_is_refused(tmp_path: Path) -> None:
    fleet, now = Fleet(tmp_path), time.time()
    clock = iter([now, now + 2 * DAY_S])
    async with (
        serving(fleet, SERVICES, clock=lambda: next(clock)) as served,
        aio_channel(served.to(fleet.node())) as made,
    ):
        assert await made.unary_unary(f"/{FLEET}/Who")(b"") == b"node/t4-01/None"
        with pytest.raises(QuantfleetError) as caught:
            await made.unary_unary(f"/{FLEET}/Who")(b"")
    assert caught.value.code is ErrorCode.CERTIFICATE_EXPIRED


@in_a_loop
async def test_a_node_may_not_call_control_nor_a_user_call_fleet(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    async with serving(fleet, SERVICES, roles=ROLES) as served:
        assert await refusal(served, fleet.node(), f"/{CONTROL}/Who") is ErrorCode.WRONG_KIND_OF_CALLER
        assert await refusal(served, fleet.user(), f"/{FLEET}/Who") is ErrorCode.WRONG_KIND_OF_CALLER
        for anyone in (fleet.node(), fleet.user()):
            unknown = await refusal(served, anyone, "/quantfleet.v1.Unknown/Who")
            assert unknown is ErrorCode.WRONG_KIND_OF_CALLER


@in_a_loop
async def test_a_role_allows_what_it_says_and_no_more(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    viewer, submitter, admin = (fleet.user(str(role), role) for role in Role)
    async with serving(fleet, SERVICES, roles=ROLES) as served:
        assert await call(served, viewer, f"/{CONTROL}/Who") == "user/viewer/viewer"
        assert await refusal(served, viewer, f"/{CONTROL}/Submit") is ErrorCode.ROLE_INSUFFICIENT
        assert await call(served, submitter, f"/{CONTROL}/Submit") == "user/submitter/submitter"
        assert await refusal(served, submitter, f"/{CONTROL}/Unlisted") is ErrorCode.ROLE_INSUFFICIENT
        assert await call(served, admin, f"/{CONTROL}/Unlisted") == "user/admin/admin"


@in_a_loop
async def test_a_revoked_certificate_is_refused_on_an_open_connection(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    node, other = fleet.node(), fleet.node("other")
    async with serving(fleet, SERVICES) as served, aio_channel(served.to(node)) as made:
        assert await made.unary_unary(f"/{FLEET}/Who")(b"") == b"node/t4-01/None"
        revoke(served, node)
        with pytest.raises(QuantfleetError) as caught:
            await made.unary_unary(f"/{FLEET}/Who")(b"")
        assert caught.value.code is ErrorCode.CERTIFICATE_REVOKED
        assert await refusal(served, node) is ErrorCode.CERTIFICATE_REVOKED
        assert await call(served, other, f"/{FLEET}/Who") == "node/other/None"


@in_a_loop
async def test_a_revocation_ends_live_streams_and_long_polls_of_that_certificate_alone(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    eve, ada, node = fleet.user("eve"), fleet.user("ada"), fleet.node()
    async with (
        serving(fleet, SERVICES, roles=ROLES) as served,
        aio_channel(served.to(eve)) as eves,
        aio_channel(served.to(ada)) as adas,
        aio_channel(served.to(node)) as nodes,
    ):
        evil = aiter(eves.unary_stream(f"/{CONTROL}/Watch")(b""))
        good = aiter(adas.unary_stream(f"/{CONTROL}/Watch")(b""))
        poll = asyncio.ensure_future(poll_forever(nodes))
        assert (await anext(evil), await anext(good)) == (b"eve", b"ada")
        assert await nodes.unary_unary(f"/{FLEET}/Who")(b"") == b"node/t4-01/None"  # the poll was sent before it
        revoke(served, eve)
        revoke(served, node)
        for ended in (anext(evil), poll):
            with pytest.raises(QuantfleetError) as caught:
                await ended
            assert caught.value.code is ErrorCode.CERTIFICATE_REVOKED
        still = asyncio.ensure_future(anext(good))
        assert await call(served, ada, f"/{CONTROL}/Who") == "user/ada/admin"
        assert not still.done()
        still.cancel()


@in_a_loop
async def test_a_client_that_goes_away_leaves_no_live_call_behind(tmp_path: Path) -> None:
    left = asyncio.Event()

    async def noticing(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            left.set()

    fleet = Fleet(tmp_path)
    services = {ARTIFACTS: {"Watch": grpc.unary_stream_rpc_method_handler(noticing)}}
    async with serving(fleet, services) as served:
        async with aio_channel(served.to(fleet.node())) as made:
            assert await anext(aiter(made.unary_stream(f"/{ARTIFACTS}/Watch")(b""))) == b"first"
        await left.wait()


@in_a_loop
async def test_a_synchronous_client_is_told_the_same_reasons(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)

    def codes(served: Served) -> list[ErrorCode]:
        found = []
        for credentials in (fleet.stranger(), fleet.user()):
            with channel(served.to(credentials)) as made, pytest.raises(QuantfleetError) as caught:
                made.unary_unary(f"/{FLEET}/Who")(b"")
            found.append(caught.value.code)
        return found

    async with serving(fleet, SERVICES) as served:
        found = await asyncio.to_thread(codes, served)
    assert found == [ErrorCode.CERTIFICATE_REQUIRED, ErrorCode.WRONG_KIND_OF_CALLER]


@in_a_loop
async def test_a_secret_is_never_sent_to_a_server_of_another_fleet(tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def join(request: bytes, context: Any) -> bytes:
        heard.append(request)
        return b"welcome"

    ours, theirs = Fleet(tmp_path / "ours"), Fleet(tmp_path / "theirs")
    services = {"quantfleet.v1.Enrolment": {"Join": answer(join)}}
    async with serving(theirs, services, mutual=False) as served:
        assert await refusal(served, ours.stranger(), "/quantfleet.v1.Enrolment/Join") is ErrorCode.COORDINATOR_FOREIGN
        assert heard == []
        assert await call(served, theirs.stranger(), "/quantfleet.v1.Enrolment/Join") == "welcome"


async def poll_forever(nodes: grpc.aio.Channel) -> None:
    await nodes.unary_unary(f"/{FLEET}/Poll")(b"")


def revoke(served: Served, credentials: Credentials) -> None:
    peer = parse_peer(credentials.certificate_pem)
    served.denylist.revoke(peer.serial, peer.not_after)
