"""Real fleets for tests: an authority, credentials of its members, and a server on port 0 that checks them."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc

from quantfleet_coordinator.enrolment.authority import Authority
from quantfleet_coordinator.enrolment.denylist import DenyList
from quantfleet_wire.identity import AccessPolicy, IdentityInterceptor, Role
from quantfleet_wire.identity_files import Credentials, make_csr, make_key
from quantfleet_wire.interceptors import ErrorInterceptor
from quantfleet_wire.tls import SERVER_OPTIONS, mutual_tls, server_tls


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Fleet:
    """One fleet with its authority in `directory`."""

    def __init__(self, directory: Path, name: str = "acme", clock: Callable[[], float] = time.time) -> None:
        self.authority = Authority.open(directory, name, clock=clock)

    def node(self, name: str = "t4-01") -> Credentials:
        key = make_key()
        issued = self.authority.issue_node(make_csr(key, "ignored"), name)
        return Credentials("", self.authority.bundle_pem, issued.certificate_pem, key)

    def user(self, name: str = "ada", role: Role = Role.ADMIN) -> Credentials:
        key = make_key()
        issued = self.authority.issue_user(make_csr(key, "ignored"), name, role)
        return Credentials("", self.authority.bundle_pem, issued.certificate_pem, key)

    def stranger(self) -> Credentials:
        """Knows the authority, has no certificate."""
        return Credentials("", self.authority.bundle_pem)

    def server_credentials(self, *, mutual: bool = True) -> grpc.ServerCredentials:
        identity = self.authority.issue_server()
        if mutual:
            return mutual_tls(identity.certificate_pem, identity.key_pem, self.authority.bundle_pem)
        return server_tls(identity.certificate_pem, identity.key_pem)


@dataclass(frozen=True)
class Served:
    """A running server."""

    address: str
    denylist: DenyList

    def to(self, credentials: Credentials) -> Credentials:
        """The credentials with this server's address."""
        return replace(credentials, address=self.address)


Services = Mapping[str, Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]]


def answer(behaviour: Callable[[bytes, Any], Awaitable[bytes]]) -> "grpc.RpcMethodHandler[Any, Any]":
    """A unary method whose messages are bytes."""
    return grpc.unary_unary_rpc_method_handler(behaviour)


@asynccontextmanager
async def serving(
    fleet: Fleet,
    services: Services,
    *,
    mutual: bool = True,
    roles: Mapping[str, Role] | None = None,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Served]:
    """A server of `services` ({service: {method: handler}}) with the interceptors of a coordinator."""
    denylist = DenyList()
    guard = IdentityInterceptor(fleet.authority.fleet, AccessPolicy(roles or {}), denylist.is_revoked, clock)
    denylist.on_revoked(guard.abort_calls)
    interceptors: list[grpc.aio.ServerInterceptor] = [ErrorInterceptor(), *([guard] if mutual else [])]
    server = grpc.aio.server(interceptors=interceptors, options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items()]
    )
    port = server.add_secure_port("127.0.0.1:0", fleet.server_credentials(mutual=mutual))
    await server.start()
    try:
        yield Served(f"127.0.0.1:{port}", denylist)
    finally:
        await server.stop(0)
