"""The agent's loops: register, acquire, heartbeat, renew. Not for what one task goes through (see attempt)."""

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from quantfleet_domain.errors import Category, ErrorCode, QuantfleetError
from quantfleet_domain.hardware.facts import DeviceFacts
from quantfleet_protos.v1 import fleet_pb2, hardware_pb2
from quantfleet_protos.v1.artifacts_pb2_grpc import ArtifactsStub
from quantfleet_protos.v1.fleet_pb2_grpc import FleetStub
from quantfleet_wire.codec import encode
from quantfleet_wire.identity_files import (
    Credentials,
    issued_at,
    load_credentials,
    make_csr,
    make_key,
    renewal_due,
    save_credentials,
)
from quantfleet_wire.tls import aio_channel
from quantfleet_worker.agent.attempt import Attempt, Workshop
from quantfleet_worker.agent.cache import Cache
from quantfleet_worker.equipment import Equipment
from quantfleet_worker.execution.ray_host import RayHost

if TYPE_CHECKING:
    from quantfleet_protos.v1.artifacts_pb2_grpc import ArtifactsAsyncStub
    from quantfleet_protos.v1.fleet_pb2_grpc import FleetAsyncStub

_log = logging.getLogger(__name__)
POLL_S = 25.0
CACHE_BYTES = 8 * 1024**3
_FATAL = frozenset({Category.UNAUTHENTICATED, Category.REFUSED})
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
_LOOK_S = 1.0
_RENEW_AGAIN_S = 60.0


def slot_names(devices: Sequence[DeviceFacts]) -> list[str]:
    """The names of Ray slots: one for each core of a device's own share."""
    return [f"{facts.device}/{index}" for facts in devices for index in range(len(facts.slots))]


@dataclass(frozen=True)
class Identity:
    """Where this node's credentials are, and the channel opened with them.

    `opened` is when, in seconds of a clock that nobody sets and that goes on while the host sleeps; `renewed` says that
    the certificate was issued just then, and not to an earlier run.
    """

    directory: Path
    credentials: Credentials
    channel: grpc.aio.Channel
    jitter: float
    opened: float
    renewed: bool

    @staticmethod
    def open(directory: Path, *, renewed: bool = False) -> "Identity":
        """Load the credentials and open a channel. Raises NO_CREDENTIALS, CREDENTIALS_INVALID."""
        credentials = load_credentials(directory)
        jitter, opened = secrets.randbelow(1000) / 1000, time.clock_gettime(time.CLOCK_BOOTTIME)
        return Identity(directory, credentials, aio_channel(credentials), jitter, opened, renewed)

    def renewal_due(self) -> bool:
        """Whether to renew. A wall clock that is wrong must neither have it done again and again nor too late."""
        certificate = self.credentials.certificate_pem
        now = issued_at(certificate) + time.clock_gettime(time.CLOCK_BOOTTIME) - self.opened
        return renewal_due(certificate, now if self.renewed else max(now, time.time()), self.jitter)


class Agent:
    """One run of a node. `state` holds `credentials/`, `cache/` and `work/`."""

    def __init__(
        self, state: Path, devices: Sequence[DeviceFacts], host: RayHost, equipment: Equipment | None = None
    ) -> None:
        self._state = state
        self._devices = devices
        self._identity = Identity.open(state / "credentials")
        self._former: list[grpc.aio.Channel] = []
        self._incarnation = secrets.token_hex(16)
        self._last_reply = 0
        self._held: dict[tuple[str, str, int], Attempt] = {}
        self._lease_s = self._heartbeat_s = 0.0
        cache = Cache(state / "cache", CACHE_BYTES)
        equipment = equipment or Equipment(state / "engines")
        equipment.kept.mkdir(exist_ok=True)
        self._workshop = Workshop(host, devices, cache, state / "work", self._incarnation, equipment)

    async def run(self) -> None:
        """Work until cancelled. Raises the error that ends it: revoked, expired, or started elsewhere meanwhile."""
        await self._register()
        loops = [asyncio.create_task(loop()) for loop in (self._acquire, self._heartbeat, self._watch, self._renew)]
        try:
            done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
            for loop in done:
                loop.result()
        finally:
            for loop in loops:
                loop.cancel()
            await self._abandon()
            for channel in (*self._former, self._identity.channel):
                await channel.close()

    def _fleet(self) -> "FleetAsyncStub":
        return FleetStub(self._identity.channel)

    async def _register(self) -> None:
        request = fleet_pb2.RegisterRequest(
            incarnation=self._incarnation,
            devices=[encode(facts, hardware_pb2.DeviceFacts) for facts in self._devices],
            version=version("quantfleet"),
        )
        tries = 0
        while (response := await self._registered(request, tries)) is None:
            tries += 1
        self._lease_s, self._heartbeat_s = response.lease_s, response.heartbeat_s
        _log.info("registered as node %s", response.node)

    async def _registered(self, request: fleet_pb2.RegisterRequest, tries: int) -> fleet_pb2.RegisterResponse | None:
        try:
            return await self._fleet().Register(request)
        except QuantfleetError as error:
            await self._pause(error, tries)
            return None

    async def _acquire(self) -> None:
        tries = 0
        while True:
            asked = time.monotonic()
            request = fleet_pb2.AcquireTasksRequest(
                incarnation=self._incarnation, last_reply=self._last_reply, wait_s=POLL_S
            )
            try:
                response = await self._fleet().AcquireTasks(request, timeout=POLL_S + self._lease_s)
            except QuantfleetError as error:
                tries += 1
                await self._pause(error, tries)
                continue
            tries = 0
            # Both before anything is awaited: a heartbeat that names this reply must also list its tasks.
            self._last_reply = response.reply
            for leased in response.tasks:
                key = (leased.job_id, leased.task_id, leased.epoch)
                attempt = Attempt(leased, self._workshop, self._stubs)
                attempt.deadline = asked + response.waited_s + self._lease_s
                self._held[key] = attempt
                attempt.start(partial(self._held.pop, key, None))

    def _stubs(self) -> "tuple[FleetAsyncStub, ArtifactsAsyncStub]":
        return self._fleet(), ArtifactsStub(self._identity.channel)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            await asyncio.gather(*(attempt.observe() for attempt in self._held.values()))
            # Nothing is awaited from here on: the tasks listed are all those of the replies up to `last_reply`.
            held = dict(self._held)
            sent = time.monotonic()
            request = fleet_pb2.HeartbeatRequest(
                incarnation=self._incarnation,
                last_reply=self._last_reply,
                held=[attempt.held() for attempt in held.values()],
            )
            try:
                response = await self._fleet().Heartbeat(request, timeout=self._heartbeat_s * 2)
            except QuantfleetError as error:
                await self._pause(error, 0)
                continue
            stopped = {(task.job_id, task.task_id, task.epoch) for task in response.stop}
            for key, attempt in held.items():
                if key in stopped:
                    attempt.stop("the coordinator has taken it back")
                else:
                    attempt.deadline = sent + self._lease_s

    async def _watch(self) -> None:
        """Kill what outlives its lease, on time also while a heartbeat waits for its answer: it may run elsewhere."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now = time.monotonic()
            for attempt in self._held.values():
                if attempt.deadline < now:
                    attempt.stop("its lease has run out")

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            known = self._identity
            if not known.renewal_due():
                continue
            key = make_key()
            try:
                response = await self._fleet().Renew(fleet_pb2.RenewRequest(csr=make_csr(key, "node")))
                fresh = Credentials(known.credentials.address, response.trust_bundle, response.certificate, key)
                await asyncio.to_thread(save_credentials, known.directory, fresh)
            except QuantfleetError as error:
                await self._pause(error, 3)
                continue
            except OSError as error:  # a full disk, say; the certificate at hand is good for a third of its life yet
                _log.warning("the renewed certificate could not be saved, it is tried again: %s", error)
                await asyncio.sleep(_RENEW_AGAIN_S)
                continue
            self._identity = Identity.open(known.directory, renewed=True)
            _log.info("the certificate was renewed")
            # What is under way goes on on the old channel, call after call of a long transfer: it closes a renewal
            # later. A call that closing cuts off is cancelled, and would take its loop with it: none is that old.
            self._former.append(known.channel)
            if len(self._former) > 1:
                await self._former[0].close(grace=POLL_S + self._lease_s)
                del self._former[0]

    async def _pause(self, error: QuantfleetError, tries: int) -> None:
        """Wait before trying again; raise what trying again cannot mend."""
        if error.category in _FATAL or error.code is ErrorCode.INCARNATION_STALE:
            raise error
        if tries in (0, 1):
            _log.warning("%s", error)
        await asyncio.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])

    async def _abandon(self) -> None:
        """Give everything back, so that others need not wait for the leases to run out."""
        attempts = list(self._held.values())
        for attempt in attempts:
            attempt.stop("the worker is stopping")
        await asyncio.gather(*(attempt.give_back("the worker was stopped") for attempt in attempts))
