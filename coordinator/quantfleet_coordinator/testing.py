"""A whole coordinator in a directory, on free ports, with real TLS: for tests of what talks to it. Not for a fleet."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc

from quantfleet_coordinator.server import Coordinator, admin_directory
from quantfleet_coordinator.settings import Settings
from quantfleet_protos.v1 import control_pb2
from quantfleet_protos.v1.artifacts_pb2_grpc import ArtifactsStub
from quantfleet_protos.v1.control_pb2_grpc import ControlStub
from quantfleet_wire.identity_files import Credentials, load_credentials
from quantfleet_wire.joining import redeem
from quantfleet_wire.tls import aio_channel

if TYPE_CHECKING:
    from quantfleet_protos.v1.artifacts_pb2_grpc import ArtifactsAsyncStub
    from quantfleet_protos.v1.control_pb2_grpc import ControlAsyncStub

LOOPBACK = "127.0.0.1:0"


class LocalFleet:
    """A coordinator whose state is in `directory`; `settings` are fields of `Settings`, `kind` what is started.

    An asynchronous context manager: within it `control` and `artifacts` are the calls of the first admin.
    """

    def __init__(self, directory: Path, kind: type[Coordinator] = Coordinator, **settings: Any) -> None:
        self._directory = directory
        self._kind = kind
        addresses = {"listen": LOOPBACK, "enrol_listen": LOOPBACK}
        self._settings = Settings(state=directory / "state", **{**addresses, **settings})

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def _start(self) -> None:
        self.coordinator = self._kind(self._settings)
        await self.coordinator.start()
        # Whoever has credentials finds the next run at the same address.
        self._settings = replace(
            self._settings, listen=self.coordinator.address, enrol_listen=self.coordinator.enrolment_address
        )
        self._open: list[grpc.aio.Channel] = []
        channel = self.channel(load_credentials(admin_directory(self._settings.state)))
        self.control: ControlAsyncStub = ControlStub(channel)
        self.artifacts: ArtifactsAsyncStub = ArtifactsStub(channel)

    async def _stop(self) -> None:
        for channel in self._open:
            await channel.close()
        await self.coordinator.stop(grace_s=0)

    async def restart(self) -> None:
        """Stop the coordinator and start another on the same state and addresses; all channels are closed."""
        await self._stop()
        await self._start()

    def channel(self, credentials: Credentials) -> grpc.aio.Channel:
        """A channel that is closed with the fleet."""
        channel = aio_channel(credentials)
        self._open.append(channel)
        return channel

    async def enrol(self, name: str) -> Credentials:
        """Make a node a member by a token, as an operator would; its credentials."""
        return await self._member(name, "node", "")

    async def login(self, name: str, role: str) -> Credentials:
        """Make a user a member; as `enrol`."""
        return await self._member(name, "user", role)

    async def _member(self, name: str, purpose: Any, role: str) -> Credentials:
        request = control_pb2.CreateTokenRequest(purpose=purpose, name=name, role=role, ttl_s=60)
        token = (await self.control.CreateToken(request)).token
        directory = self._directory / f"{purpose}-{name}"
        await redeem(token, directory, purpose)
        return load_credentials(directory)
