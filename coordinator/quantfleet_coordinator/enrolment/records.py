"""What the coordinator remembers of tokens and certificates. Not for how it is stored."""

from dataclasses import dataclass
from typing import ClassVar

from quantfleet_wire.identity import Kind


@dataclass(frozen=True)
class TokenRecord:
    """A join token as the coordinator knows it: never the secret, only its SHA-256. Times are Unix seconds.

    `role` is empty for a node. Once redeemed, `redeemed_by` is the SHA-256 (hex) of the public key and
    `certificate_pem` what was issued to it; both are empty before.
    """

    KEY: ClassVar[tuple[str, ...]] = ("id",)
    id: str
    purpose: Kind
    name: str
    role: str
    secret_sha256: bytes
    created_at: float
    expires_at: float
    redeemed_by: str = ""
    certificate_pem: str = ""
    revoked: bool = False


@dataclass(frozen=True)
class CertificateRecord:
    """A certificate that was issued: `serial` hexadecimal, `role` empty for a node, `not_after` Unix seconds."""

    KEY: ClassVar[tuple[str, ...]] = ("serial",)
    serial: str
    kind: Kind
    name: str
    role: str
    not_after: float
    revoked: bool = False
