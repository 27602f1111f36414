"""The coordinator as a whole: what it is put together from, how it starts, loads its state and stops."""

import asyncio
import logging
import time
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from quantfleet_coordinator.artifacts.cas import ArtifactDirectory
from quantfleet_coordinator.enrolment.authority import Authority
from quantfleet_coordinator.enrolment.denylist import DenyList
from quantfleet_coordinator.enrolment.members import Members
from quantfleet_coordinator.enrolment.ratelimit import RateLimit
from quantfleet_coordinator.enrolment.records import CertificateRecord, TokenRecord
from quantfleet_coordinator.jobs.chores import Chores
from quantfleet_coordinator.jobs.desk import Desk
from quantfleet_coordinator.jobs.dispatcher import Dispatcher
from quantfleet_coordinator.jobs.leases import Leases
from quantfleet_coordinator.jobs.ledger import Ledger
from quantfleet_coordinator.library import Library
from quantfleet_coordinator.nodes import Nodes
from quantfleet_coordinator.servicers.artifacts import ArtifactsServicer
from quantfleet_coordinator.servicers.control import ROLES, ControlServicer
from quantfleet_coordinator.servicers.enrolment import EnrolmentServicer
from quantfleet_coordinator.servicers.fleet import FleetServicer
from quantfleet_coordinator.settings import Settings
from quantfleet_coordinator.store.base import Store
from quantfleet_coordinator.store.sql import SqliteStore
from quantfleet_coordinator.store.writer import Writer
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_protos.v1 import artifacts_pb2_grpc, control_pb2_grpc, enrolment_pb2_grpc, fleet_pb2_grpc
from quantfleet_wire.identity import AccessPolicy, IdentityInterceptor, Role
from quantfleet_wire.identity_files import (
    Credentials,
    load_credentials,
    make_csr,
    make_key,
    renewal_due,
    save_credentials,
)
from quantfleet_wire.interceptors import ErrorInterceptor
from quantfleet_wire.tls import SERVER_OPTIONS, STRANGER_OPTIONS, STRANGERS_AT_ONCE, mutual_tls, server_tls

_log = logging.getLogger(__name__)
FIRST_ADMIN = "admin"
COLLECT_EVERY_S = 600.0
GRACE_S = 1.0


class Coordinator:
    """One running coordinator: `await start()`, `await stop()`. It owns its state directory meanwhile."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._background: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Load the state and open both ports. Raises STORE_FAILED, CREDENTIALS_INVALID or USAGE (address in use)."""
        self._store = await asyncio.to_thread(self._open_store)
        try:
            await self._start()
        except BaseException:
            await asyncio.to_thread(self._store.close)  # another coordinator may have this directory now
            raise

    def _open_store(self) -> Store:
        return SqliteStore(self._settings.state)

    async def _start(self) -> None:
        settings = self._settings
        self._directory = await asyncio.to_thread(ArtifactDirectory, settings.state / "artifacts")
        authority = Authority.open(settings.state / "ca", settings.fleet, node_lifetime_s=settings.node_lifetime_s)
        self._authority = authority
        identity = authority.issue_server([settings.advertise])
        self._writer = Writer(self._store, self._reload)
        self._ledger = Ledger(self._writer, Nodes(settings.lease_s), Leases(settings.lease_s))
        self._library = Library(self._directory, self._ledger)
        self._denylist = DenyList()
        guard = IdentityInterceptor(authority.fleet, AccessPolicy(ROLES), self._denylist.is_revoked)
        self._denylist.on_revoked(guard.abort_calls)

        self._server = grpc.aio.server(interceptors=[ErrorInterceptor(), guard], options=SERVER_OPTIONS)
        credentials = mutual_tls(identity.certificate_pem, identity.key_pem, authority.bundle_pem)
        self.address = self._bind(self._server, settings.listen, credentials)
        self._enrolment = grpc.aio.server(
            interceptors=[ErrorInterceptor()], options=STRANGER_OPTIONS, maximum_concurrent_rpcs=STRANGERS_AT_ONCE
        )
        credentials = server_tls(identity.certificate_pem, identity.key_pem)
        self.enrolment_address = self._bind(self._enrolment, settings.enrol_listen, credentials)

        addresses = (self.enrolment_address, self.address)
        self._members = Members(self._ledger, authority, self._denylist, addresses)
        self._load()
        await self._library.recover()
        await self._first_admin()
        self._add_services()
        await self._server.start()
        await self._enrolment.start()
        _log.info("fleet %s: serving %s, enrolling at %s", authority.fleet, self.address, self.enrolment_address)

    def _bind(self, server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials) -> str:
        try:
            port = server.add_secure_port(listen, credentials)
        except RuntimeError as error:
            raise QuantfleetError(
                ErrorCode.USAGE, f"cannot listen on {listen}: {error}", "choose a free address"
            ) from error
        return f"{self._settings.advertise}:{port}"

    def _add_services(self) -> None:
        ledger, members = self._ledger, self._members
        dispatcher = Dispatcher(ledger, self._library.has)
        desk = Desk(ledger, self._store, self._library.has, self._library.read)
        settings = self._settings
        fleet_pb2_grpc.add_FleetServicer_to_server(
            FleetServicer(dispatcher, members, settings.heartbeat_s, settings.lease_s), self._server
        )
        control_pb2_grpc.add_ControlServicer_to_server(
            ControlServicer(ledger, desk, dispatcher, members, self._store), self._server
        )
        artifacts = ArtifactsServicer(self._directory, self._library.record, self._library.may_read)
        artifacts_pb2_grpc.add_ArtifactsServicer_to_server(artifacts, self._server)
        enrolment_pb2_grpc.add_EnrolmentServicer_to_server(EnrolmentServicer(members, RateLimit()), self._enrolment)
        for server in (self._server, self._enrolment):
            servicer = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue]  # no stub
            health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
            self._spawn(servicer.set("", health_pb2.HealthCheckResponse.SERVING))
        self._spawn(dispatcher.keep_time())
        self._spawn(Chores(ledger, self._library.read, self._library.put, self._library.record).run())
        self._spawn(self._tidy())

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_report_death)
        self._background.append(task)

    def _load(self) -> None:
        """Bring memory to what the store says. Every standing lease gets one fresh term."""
        self._library.load(self._store)
        self._ledger.load(self._store, self._library.manifest)
        certificates = self._store.all(CertificateRecord)
        self._members.load(self._store.all(TokenRecord), certificates)
        for record in certificates:
            if record.revoked:
                self._denylist.revoke(record.serial, record.not_after)

    def _reload(self, error: Exception) -> None:
        """A commit failed: memory is ahead of the store, which is the truth."""
        _log.error("the store failed, the state is loaded anew: %s", error)
        try:
            self._load()
        except Exception:
            # What is in memory is not what is stored, and must not be served; whoever waits on `wait` starts anew.
            _log.critical("the state cannot be loaded: the coordinator stops", exc_info=True)
            self._spawn(self._server.stop(GRACE_S))
            self._spawn(self._enrolment.stop(GRACE_S))
        self._ledger.changes.notify()

    async def _first_admin(self) -> None:
        """At the first start, write credentials of an admin into the state directory (0600); later, keep them valid.

        Whoever can read that directory owns the fleet anyway: the authority's key is in it. So the admin there is
        renewed when that is due, unless it was revoked, and its address follows the coordinator's.
        """
        directory = admin_directory(self._settings.state)
        issued_before = next((user for user in self._members.users() if user.name == FIRST_ADMIN), None)
        if issued_before is not None:
            try:
                known = await asyncio.to_thread(load_credentials, directory)
            except QuantfleetError:  # an admin who moved or removed the credentials meant to
                return
            if issued_before.revoked or not renewal_due(known.certificate_pem, time.time(), 0.0):
                if known.address != self.address:
                    moved = Credentials(self.address, known.ca_pem, known.certificate_pem, known.key_pem)
                    await asyncio.to_thread(save_credentials, directory, moved)
                return
        key = make_key()
        issued = self._authority.issue_user(make_csr(key, FIRST_ADMIN), FIRST_ADMIN, Role.ADMIN)
        credentials = Credentials(self.address, self._authority.bundle_pem, issued.certificate_pem, key)
        # In this order: after a crash in between, the next start issues others; it does not for a recorded admin.
        await asyncio.to_thread(save_credentials, directory, credentials)
        await self._members.adopt(issued.record)

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(COLLECT_EVERY_S)
            self._denylist.forget_expired(time.time())
            try:
                await self._first_admin()
                await self._library.collect(self._settings.orphan_age_s)
            except Exception:
                _log.exception("keeping the admin's certificate and the artifacts tidy failed; it is tried again")

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Close both ports, finish what is queued for the store, give the state directory back."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.gather(self._server.stop(grace_s), self._enrolment.stop(grace_s))
        await self._writer.close()
        await asyncio.to_thread(self._store.close)

    async def wait(self) -> None:
        """Serve until stopped."""
        await self._server.wait_for_termination()


def admin_directory(state: Path) -> Path:
    """Where the first admin's credentials are."""
    return state / "admin"


def _report_death(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("a background task of the coordinator died", exc_info=error)
