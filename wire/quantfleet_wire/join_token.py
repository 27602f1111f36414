"""The one string that a new node or user is given: where to go, whom to trust, and the secret. Not for token records.

Format 1: `qf1-` + base64url without padding of a body and the first 4 bytes of its SHA-256. The body is six fields,
each a 16-bit big-endian length and its bytes: purpose, enrolment address, main address, token id, secret, CA
certificate (DER). The checksum finds a paste that was cut off; the secret alone authorises.
"""

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass, field
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from quantfleet_domain.errors import ErrorCode, QuantfleetError

_PREFIX: Final = "qf1-"
_CHECK_BYTES: Final = 4
_FIELDS: Final = 6


@dataclass(frozen=True)
class JoinToken:
    """What a token says. Addresses are host:port; `ca_pem` is the fleet's authority; `secret` is shown in no repr."""

    purpose: Literal["node", "user"]
    enrolment_address: str
    address: str
    token_id: str
    secret: bytes = field(repr=False)
    ca_pem: bytes = field(repr=False)

    def encode(self) -> str:
        """The token as one line of about 700 characters."""
        ca_der = x509.load_pem_x509_certificate(self.ca_pem).public_bytes(Encoding.DER)
        texts = (self.purpose, self.enrolment_address, self.address, self.token_id)
        body = b"".join(
            struct.pack(">H", len(part)) + part for part in (*(text.encode() for text in texts), self.secret, ca_der)
        )
        return _PREFIX + base64.urlsafe_b64encode(body + _checksum(body)).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str) -> "JoinToken":
        """Read a token, ignoring white space that a terminal or a mail put in; TOKEN_MALFORMED says what is wrong."""
        text = "".join(text.split())
        if not text.startswith(_PREFIX):
            raise _malformed(f"it does not begin with {_PREFIX!r}")
        try:
            raw = base64.b64decode(text[len(_PREFIX) :] + "=" * (-len(text[len(_PREFIX) :]) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _malformed("it is cut off or has characters that no token has") from None
        body, check = raw[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
        if _checksum(body) != check:
            raise _malformed("its checksum is wrong: it is cut off or mistyped")
        try:
            purpose, enrolment_address, address, token_id, secret, ca_der = _split(body)
            return cls(
                purpose="node" if purpose == b"node" else "user",
                enrolment_address=enrolment_address.decode(),
                address=address.decode(),
                token_id=token_id.decode(),
                secret=secret,
                ca_pem=x509.load_der_x509_certificate(ca_der).public_bytes(Encoding.PEM),
            )
        except (ValueError, struct.error):
            raise _malformed("its fields cannot be read") from None


def _split(body: bytes) -> list[bytes]:
    parts, at = [], 0
    while at < len(body):
        (size,) = struct.unpack_from(">H", body, at)
        parts.append(body[at + 2 : at + 2 + size])
        at += 2 + size
    if len(parts) != _FIELDS or at != len(body) or parts[0] not in (b"node", b"user"):
        raise ValueError("not the fields of a token")
    return parts


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECK_BYTES]


def _malformed(why: str) -> QuantfleetError:
    todo = "copy the whole token, one long line, or ask for a new one"
    return QuantfleetError(ErrorCode.TOKEN_MALFORMED, f"this is not a join token: {why}", todo)
