"""The first admin's credentials: written once, kept valid, never issued again after a revocation."""

import asyncio
import time
from pathlib import Path

import pytest

import quantfleet_coordinator.server as server
from quantfleet_coordinator.server import Coordinator, admin_directory
from quantfleet_coordinator.settings import Settings
from quantfleet_protos.v1 import control_pb2
from quantfleet_protos.v1.control_pb2_grpc import ControlStub
from quantfleet_wire.identity_files import Credentials, load_credentials
from quantfleet_wire.tls import aio_channel

DAY_S = 86_400.0


async def one_start(state: Path, *, revoke: bool = False) -> Credentials:
    """Start and stop a coordinator; the first admin's credentials as they are then."""
    coordinator = Coordinator(Settings(state, "127.0.0.1:0", "127.0.0.1:0"))
    await coordinator.start()
    try:
        credentials = load_credentials(admin_directory(state))
        async with aio_channel(credentials) as channel:
            await ControlStub(channel).ListNodes(control_pb2.ListNodesRequest())
            if revoke:
                await ControlStub(channel).RevokeUser(control_pb2.RevokeUserRequest(user="admin"))
        return credentials
    finally:
        await coordinator.stop()


def test_a_restart_keeps_the_certificate_and_follows_the_address(tmp_path: Path) -> None:
    first, second = asyncio.run(one_start(tmp_path)), asyncio.run(one_start(tmp_path))
    assert first.certificate_pem == second.certificate_pem
    assert first.address != second.address


def test_a_restart_renews_the_certificate_when_that_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = asyncio.run(one_start(tmp_path))
    now = time.time
    monkeypatch.setattr(server.time, "time", lambda: now() + 70 * DAY_S)
    second = asyncio.run(one_start(tmp_path))
    assert first.certificate_pem != second.certificate_pem


def test_a_revoked_admin_stays_revoked(tmp_path: Path) -> None:
    first = asyncio.run(one_start(tmp_path, revoke=True))
    coordinator = Coordinator(Settings(tmp_path, "127.0.0.1:0", "127.0.0.1:0"))

    async def start_again() -> None:
        await coordinator.start()
        await coordinator.stop()

    asyncio.run(start_again())
    assert load_credentials(admin_directory(tmp_path)).certificate_pem == first.certificate_pem
