"""TLS credentials, options and channels for every connection of a fleet. Not for who a caller is: that is `identity`.

The coordinator's certificate carries one fixed name whatever its address, and every channel checks it against the
fleet's own authority under that name. So an address is only a way to reach it, and a stranger there learns nothing.
"""

import functools
from typing import Final

import grpc

from quantfleet_wire.diagnosis import diagnose
from quantfleet_wire.identity import TARGET_NAME
from quantfleet_wire.identity_files import Credentials
from quantfleet_wire.interceptors import TypedErrors, typed_aio_errors

MESSAGE_BYTES: Final = 16 * 2**20
"""The largest message in either direction; artifacts travel in chunks far below it."""

SERVER_OPTIONS: Final[list[tuple[str, int]]] = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    # Two coordinators on one port would share its calls silently.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Our clients ping an idle connection every 20 s; gRPC's default of 300 s would drop them for it.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    # A long poll or a watch without news is a stream without data: its pings are wanted, however many.
    ("grpc.http2.max_ping_strikes", 0),
]

STRANGER_BYTES: Final = 64 * 2**10
"""The largest message that the enrolment port takes: whoever calls there has proved nothing yet."""
STRANGERS_AT_ONCE: Final = 64
STRANGER_OPTIONS: Final[list[tuple[str, int]]] = [
    (name, STRANGER_BYTES if name == "grpc.max_receive_message_length" else value) for name, value in SERVER_OPTIONS
]

_CLIENT_OPTIONS: Final[list[tuple[str, int | str]]] = [
    ("grpc.ssl_target_name_override", TARGET_NAME),
    ("grpc.default_authority", TARGET_NAME),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A restarted coordinator is found again within seconds (gRPC's default waits up to two minutes).
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # A channel made after a renewal must shake hands anew, not share the old one's connection.
    ("grpc.use_local_subchannel_pool", 1),
]


def mutual_tls(certificate_pem: bytes, key_pem: bytes, client_ca_pem: bytes) -> grpc.ServerCredentials:
    """The main port's credentials: it proves itself and accepts only clients that `client_ca_pem` (a bundle) issued."""
    return grpc.ssl_server_credentials([(key_pem, certificate_pem)], client_ca_pem, require_client_auth=True)


def server_tls(certificate_pem: bytes, key_pem: bytes) -> grpc.ServerCredentials:
    """The enrolment port's credentials: it proves itself and asks for nothing, for who joins has no certificate yet."""
    return grpc.ssl_server_credentials([(key_pem, certificate_pem)])


def channel(credentials: Credentials) -> grpc.Channel:
    """A channel to `credentials.address` whose calls raise `QuantfleetError`, diagnosed when the transport failed.

    No call is sent before the server has proved that `credentials.ca_pem` issued it under the fixed name.
    """
    secure = grpc.secure_channel(credentials.address, _channel_credentials(credentials), _CLIENT_OPTIONS)
    return grpc.intercept_channel(secure, TypedErrors(functools.partial(diagnose, credentials)))


def aio_channel(credentials: Credentials) -> grpc.aio.Channel:
    """As `channel`, for asyncio; make it in the event loop that uses it. Request streams are given as iterators."""
    interceptors = typed_aio_errors(functools.partial(diagnose, credentials))
    return grpc.aio.secure_channel(
        credentials.address, _channel_credentials(credentials), _CLIENT_OPTIONS, interceptors=interceptors
    )


def _channel_credentials(credentials: Credentials) -> grpc.ChannelCredentials:
    key, certificate = credentials.key_pem or None, credentials.certificate_pem or None
    return grpc.ssl_channel_credentials(credentials.ca_pem, key, certificate)
