"""Who calls: read from the certificate of the connection, checked on every call, cut off at once when revoked.

Not for issuing certificates (the coordinator's enrolment does) nor for the handshake (`tls`).

A user's role is the certificate's OU, not a record of the coordinator: it then has the same proof as the name, needs
no look-up on a call, and is the same after a restore. To change a role, revoke the certificate and redeem a new token.
"""

import asyncio
import enum
import functools
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.interceptors import Context, Handler, wrap_handler

Kind = Literal["node", "user"]
TARGET_NAME: Final = "coordinator.quantfleet"
"""The name in the coordinator's certificate, whatever its address."""
# Names stand in URIs, file names and `node/cpu:0`, so neither a slash nor a colon may be in them.
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

_SPIFFE: Final = re.compile(rf"spiffe://({NAME.pattern})/(node|user)/({NAME.pattern})")
_REJOIN: Final = "join again with a new token"


class Role(enum.IntEnum):
    """What a user may do; each role may do all that a smaller one may."""

    VIEWER = 1
    SUBMITTER = 2
    ADMIN = 3

    @classmethod
    def named(cls, name: str) -> "Role":
        """The role called `viewer`, `submitter` or `admin`; USAGE for any other name."""
        try:
            return cls[name.upper()]
        except KeyError:
            todo = "give one of viewer, submitter, admin"
            raise QuantfleetError(ErrorCode.USAGE, f"there is no role {name!r}", todo) from None

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Peer:
    """The caller, as its certificate says; `role` is None for a node, `serial` is hexadecimal, `not_after` Unix s."""

    kind: Kind
    name: str
    fleet: str
    role: Role | None
    serial: str
    not_after: float


@dataclass(frozen=True)
class AccessPolicy:
    """Which kind of caller a service is for, and the smallest role a user needs for a method.

    `kinds` is keyed by service (`quantfleet.v1.Fleet`), `roles` by method (`/quantfleet.v1.Control/Submit`).
    A service that is not listed refuses everyone. A method that is not listed needs ADMIN of a user where its service
    is for users alone, and any role where it is for nodes too.
    """

    roles: Mapping[str, Role]
    kinds: Mapping[str, frozenset[Kind]] = field(
        default_factory=lambda: {
            "quantfleet.v1.Fleet": frozenset({"node"}),
            "quantfleet.v1.Control": frozenset({"user"}),
            "quantfleet.v1.Artifacts": frozenset({"node", "user"}),
            "grpc.health.v1.Health": frozenset({"node", "user"}),
        }
    )

    def check(self, peer: Peer, method: str) -> None:
        """Raise WRONG_KIND_OF_CALLER or ROLE_INSUFFICIENT unless `peer` may call `method` (`/service/name`)."""
        service, _, name = method.removeprefix("/").rpartition("/")
        kinds = self.kinds.get(service, frozenset[Kind]())
        if peer.kind not in kinds:
            allowed = " and ".join(sorted(f"{kind}s" for kind in kinds)) or "nobody"
            what = f"{service} is for {allowed}; {peer.name!r} is a {peer.kind}"
            todo = "use the credentials of a user" if "user" in kinds else "use the credentials of a node"
            raise QuantfleetError(ErrorCode.WRONG_KIND_OF_CALLER, what, todo)
        if peer.kind == "node":
            return
        needed = self.roles.get(method, Role.ADMIN if kinds == {"user"} else Role.VIEWER)
        if peer.role is None or peer.role < needed:
            what = f"{name} needs the role {needed}; {peer.name!r} has {peer.role or 'none'}"
            raise QuantfleetError(ErrorCode.ROLE_INSUFFICIENT, what, "ask an admin of the fleet for a token")


@functools.lru_cache(maxsize=4096)
def parse_peer(certificate_pem: bytes) -> Peer:
    """The peer that a certificate names; CERTIFICATE_FOREIGN unless it names exactly one node or user of a fleet.

    Cached, because every call of a connection brings the same bytes.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        matches = [_SPIFFE.fullmatch(uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier)]
        ((fleet, kind, name),) = [match.groups() for match in matches if match]
        if len(matches) > 1:
            raise ValueError("more than one name")
    except (ValueError, x509.ExtensionNotFound):
        what = "the certificate names neither a node nor a user"
        raise QuantfleetError(ErrorCode.CERTIFICATE_FOREIGN, what, _REJOIN) from None
    return Peer(
        kind="node" if kind == "node" else "user",
        name=name,
        fleet=fleet,
        role=_role_of(certificate) if kind == "user" else None,
        serial=serial_of(certificate),
        not_after=certificate.not_valid_after_utc.timestamp(),
    )


def serial_of(certificate: x509.Certificate) -> str:
    """The serial number as it is written everywhere: hexadecimal, lower case, without a prefix."""
    return f"{certificate.serial_number:x}"


_current: ContextVar[Peer] = ContextVar("quantfleet_peer")


def current_peer() -> Peer:
    """The caller of the call that is being served; CERTIFICATE_REQUIRED outside a call checked by the interceptor."""
    peer = _current.get(None)
    if peer is None:
        raise QuantfleetError(ErrorCode.CERTIFICATE_REQUIRED, "this call has no identified caller")
    return peer


class IdentityInterceptor(grpc.aio.ServerInterceptor):
    """Lets a call reach its servicer only with a valid certificate of the fleet, and makes its peer `current_peer()`.

    Put it after `ErrorInterceptor`. `is_revoked` is asked with the serial on every call; `clock` gives Unix seconds
    (a connection may outlive the certificate that opened it, so the expiry is checked on every call too).
    Use it from the server's event loop only.
    """

    def __init__(
        self,
        fleet: str,
        policy: AccessPolicy,
        is_revoked: Callable[[str], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._fleet = fleet
        self._policy = policy
        self._is_revoked = is_revoked
        self._clock = clock
        self._live: dict[str, set[asyncio.Task[Any]]] = {}
        self._aborted: set[asyncio.Task[Any]] = set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the handler of one call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return wrap_handler(handler, functools.partial(self._identified, handler_call_details.method))

    def abort_calls(self, serial: str) -> int:
        """End every live call of this certificate with CERTIFICATE_REVOKED; the number of calls that were live."""
        live = self._live.get(serial, set())
        for task in live - self._aborted:
            self._aborted.add(task)
            task.cancel()
        return len(live)

    def _identify(self, context: Context) -> Peer:
        # grpc.aio gives None, not an empty mapping, on a connection without TLS.
        pem = b"".join((context.auth_context() or {}).get("x509_pem_cert", ()))
        if not pem:
            raise QuantfleetError(ErrorCode.CERTIFICATE_REQUIRED, "the call came without a certificate", _REJOIN)
        peer = parse_peer(pem)
        if peer.fleet != self._fleet:
            what = f"the certificate of {peer.name!r} is of the fleet {peer.fleet!r}, this is {self._fleet!r}"
            raise QuantfleetError(ErrorCode.CERTIFICATE_FOREIGN, what, _REJOIN)
        if peer.not_after <= self._clock():
            raise QuantfleetError(ErrorCode.CERTIFICATE_EXPIRED, f"the certificate of {peer.name!r} expired", _REJOIN)
        if self._is_revoked(peer.serial):
            raise _revoked(peer)
        return peer

    @asynccontextmanager
    async def _identified(self, method: str, context: Context) -> AsyncIterator[None]:
        peer = self._identify(context)
        self._policy.check(peer, method)
        task = asyncio.current_task()
        assert task is not None
        # Nothing awaits between the check and this entry, so a revocation sees every call that passed the check.
        self._live.setdefault(peer.serial, set()).add(task)
        # Not reset afterwards: the task, and its context with it, ends with the call.
        _current.set(peer)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._aborted:
                raise
            task.uncancel()
            raise _revoked(peer) from None
        finally:
            self._aborted.discard(task)
            live = self._live[peer.serial]
            live.discard(task)
            if not live:
                del self._live[peer.serial]


def _role_of(certificate: x509.Certificate) -> Role | None:
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    name = str(units[0].value).upper() if len(units) == 1 else ""
    return Role[name] if name in Role.__members__ else None


def _revoked(peer: Peer) -> QuantfleetError:
    return QuantfleetError(ErrorCode.CERTIFICATE_REVOKED, f"the certificate of {peer.name!r} is revoked", _REJOIN)
