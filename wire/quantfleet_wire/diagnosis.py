"""Why a connection failed: gRPC says UNAVAILABLE for every refused handshake. Only for use after a failed call.

One plain TLS handshake with the same material tells more. In TLS 1.3 the client is done before the server has looked at
its certificate (RFC 8446, 4.4.2.4), so the verdict comes with the first read: a coordinator that accepts sends its
HTTP/2 SETTINGS unasked (RFC 9113, 3.4), one that refuses closes. gRPC's server sends no alert with the reason, so the
reason is then looked for in the certificate itself, with the same checks that the server makes.
"""

import os
import socket
import ssl
import time
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.identity import TARGET_NAME, parse_peer
from quantfleet_wire.identity_files import Credentials

_TIMEOUT_S: Final = 3.0
_REJOIN: Final = "enrol with a new token"


def diagnose(credentials: Credentials, failed: QuantfleetError) -> QuantfleetError:
    """The reason for which the call with these credentials `failed` in the transport; `failed` itself if none shows.

    Blocks for three seconds a step at the most. Gives COORDINATOR_UNREACHABLE, COORDINATOR_FOREIGN,
    CERTIFICATE_REQUIRED, CERTIFICATE_FOREIGN or CERTIFICATE_EXPIRED; raises nothing.
    """
    address = credentials.address
    host, _, port = address.rpartition(":")
    try:
        plain = socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT_S)
    except (OSError, ValueError) as error:
        todo = "check that the coordinator runs and that its address and port are open from here"
        return QuantfleetError(ErrorCode.COORDINATOR_UNREACHABLE, f"no connection to {address}: {error}", todo)
    try:
        with plain, _context(credentials).wrap_socket(plain, server_hostname=TARGET_NAME) as secured:
            accepted = bool(secured.recv(1))
    except ssl.SSLCertVerificationError as error:
        what = f"the server at {address} is not the coordinator of this fleet: {error.verify_message}"
        todo = "check the address; if the fleet was set up anew, enrol with a new token"
        return QuantfleetError(ErrorCode.COORDINATOR_FOREIGN, what, todo)
    except TimeoutError:
        return failed
    except OSError:  # a reset, or an alert
        accepted = False
    return failed if accepted else _refused(credentials)


def _refused(credentials: Credentials) -> QuantfleetError:
    address = credentials.address
    if not credentials.certificate_pem:
        what = f"the coordinator at {address} wants a certificate, and none was given"
        return QuantfleetError(ErrorCode.CERTIFICATE_REQUIRED, what, _REJOIN)
    certificate = x509.load_pem_x509_certificate(credentials.certificate_pem)
    bundle = x509.load_pem_x509_certificates(credentials.ca_pem)
    if not any(_issued(certificate, authority) for authority in bundle):
        what = f"the coordinator at {address} does not accept this certificate: another fleet issued it"
        return QuantfleetError(ErrorCode.CERTIFICATE_FOREIGN, what, _REJOIN)
    if certificate.not_valid_after_utc.timestamp() <= time.time():
        what = f"this certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d at %H:%M UTC}"
        return QuantfleetError(ErrorCode.CERTIFICATE_EXPIRED, what, _REJOIN)
    try:
        parse_peer(credentials.certificate_pem)
    except QuantfleetError as error:
        return error
    what = f"the coordinator at {address} closed the connection"
    todo = "it may be starting or stopping; if this lasts, check that the clocks of both machines agree"
    return QuantfleetError(ErrorCode.COORDINATOR_UNREACHABLE, what, todo)


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


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
