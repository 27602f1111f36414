"""Why a connection failed: gRPC says UNAVAILABLE for every refused handshake. Only for use after a failed call.

One plain TLS handshake with the same material tells more: OpenSSL reports the alert that the coordinator sent. In
TLS 1.3 the client is done before the server has looked at its certificate, so that alert comes with the first read
(RFC 8446, 4.4.2.4 and 6.2); a coordinator that accepts sends its HTTP/2 SETTINGS unasked (RFC 9113, 3.4).
"""

import os
import socket
import ssl
import time
from typing import Final

from cryptography import x509

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.identity import TARGET_NAME
from quantfleet_wire.identity_files import Credentials

_TIMEOUT_S: Final = 3.0
_REJOIN: Final = "enrol again with a new token"
# OpenSSL's names of the alerts that a server sends about a client's certificate.
_ALERTS: Final = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": ErrorCode.CERTIFICATE_REQUIRED,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": ErrorCode.CERTIFICATE_REQUIRED,
    "TLSV1_ALERT_UNKNOWN_CA": ErrorCode.CERTIFICATE_FOREIGN,
    "SSLV3_ALERT_BAD_CERTIFICATE": ErrorCode.CERTIFICATE_FOREIGN,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": ErrorCode.CERTIFICATE_FOREIGN,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": ErrorCode.CERTIFICATE_FOREIGN,
    "TLSV1_ALERT_DECRYPT_ERROR": ErrorCode.CERTIFICATE_FOREIGN,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": ErrorCode.CERTIFICATE_EXPIRED,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": ErrorCode.CERTIFICATE_REVOKED,
}
_EXPLAINED: Final = {
    ErrorCode.CERTIFICATE_REQUIRED: ("wants a certificate, and none was given", _REJOIN),
    ErrorCode.CERTIFICATE_FOREIGN: ("does not accept this certificate: another fleet issued it", _REJOIN),
    ErrorCode.CERTIFICATE_EXPIRED: ("says that this certificate has expired", f"check the clock, or {_REJOIN}"),
    ErrorCode.CERTIFICATE_REVOKED: ("says that this certificate is revoked", _REJOIN),
}


def diagnose(credentials: Credentials, failed: QuantfleetError) -> QuantfleetError:
    """The reason for which the call with these credentials `failed` in the transport; `failed` itself if none shows.

    Blocks for three seconds a step at the most. Gives COORDINATOR_UNREACHABLE, COORDINATOR_FOREIGN or one of
    CERTIFICATE_REQUIRED, _FOREIGN, _EXPIRED, _REVOKED; raises nothing.
    """
    address = credentials.address
    if credentials.certificate_pem and _ended(credentials.certificate_pem):
        return QuantfleetError(ErrorCode.CERTIFICATE_EXPIRED, "this certificate has expired", _REJOIN)
    host, _, port = address.rpartition(":")
    try:
        plain = socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT_S)
    except (OSError, ValueError) as error:
        todo = "check that the coordinator runs and that its address and port are open from here"
        return QuantfleetError(ErrorCode.COORDINATOR_UNREACHABLE, f"no connection to {address}: {error}", todo)
    try:
        with plain, _context(credentials).wrap_socket(plain, server_hostname=TARGET_NAME) as secured:
            secured.recv(1)
    except ssl.SSLCertVerificationError as error:
        what = f"the server at {address} is not the coordinator of this fleet: {error.verify_message}"
        todo = "check the address; if the fleet was set up anew, enrol again with a new token"
        return QuantfleetError(ErrorCode.COORDINATOR_FOREIGN, what, todo)
    except ssl.SSLError as error:
        return _explain(address, _ALERTS.get(error.reason or ""), failed)
    except OSError:
        return failed
    return failed


def _explain(address: str, code: ErrorCode | None, failed: QuantfleetError) -> QuantfleetError:
    if code is None:
        return failed
    what, todo = _EXPLAINED[code]
    return QuantfleetError(code, f"the coordinator at {address} {what}", todo)


def _ended(certificate_pem: bytes) -> bool:
    return x509.load_pem_x509_certificate(certificate_pem).not_valid_after_utc.timestamp() <= time.time()


def _context(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=credentials.ca_pem.decode())
    if credentials.certificate_pem:
        # The ssl module reads a key from a path only; this file is memory, and the key stays off the disk.
        with os.fdopen(os.memfd_create("credentials"), "wb") as file:
            file.write(credentials.certificate_pem + credentials.key_pem)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context
