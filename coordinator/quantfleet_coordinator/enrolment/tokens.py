"""The rules of join tokens: made once, redeemed once, by one key. Pure: records in and out, the clock passed in.

Not for storing them: the caller reads the record, decides and writes it back in one transaction.
"""

import dataclasses
import hashlib
import hmac
import secrets
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from quantfleet_coordinator.enrolment.authority import Authority, check_name, public_key_of
from quantfleet_coordinator.enrolment.records import CertificateRecord, TokenRecord
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.identity import Kind, Role

_ASK = "ask an admin of the fleet for a new token"
_NOBODY = hashlib.sha256(b"").digest()


@dataclass(frozen=True)
class Redemption:
    """What redeeming decided: the certificate to hand over, and what to write in the same transaction.

    `certificate` is None when the certificate is handed over a second time; there is then nothing to write.
    """

    token: TokenRecord
    certificate: CertificateRecord | None
    certificate_pem: bytes


def create(purpose: Kind, name: str, role: Role | None, now: float, ttl_s: float) -> tuple[TokenRecord, bytes]:
    """A new token and its secret (32 random bytes), which is told once and never stored. Times in (Unix) seconds.

    A user needs a role and a node has none; USAGE otherwise, and for a bad name or a lifetime that is not positive.
    """
    check_name(name)
    if (role is None) != (purpose == "node"):
        todo = "give a role to a user, none to a node"
        raise QuantfleetError(ErrorCode.USAGE, f"a token for a {purpose} with the role {role or 'none'}", todo)
    if not ttl_s > 0:
        raise QuantfleetError(ErrorCode.USAGE, f"a token cannot live {ttl_s:g} s", "give a positive duration, say 15m")
    secret = secrets.token_bytes(32)
    record = TokenRecord(
        id=secrets.token_hex(8),
        purpose=purpose,
        name=name,
        role="" if role is None else str(role),
        secret_sha256=hashlib.sha256(secret).digest(),
        created_at=now,
        expires_at=now + ttl_s,
    )
    return record, secret


def redeem(record: TokenRecord | None, secret: bytes, csr_pem: bytes, now: float, authority: Authority) -> Redemption:
    """Issue the certificate of a token, or hand it over again to the key that already has it.

    `record` is the one of the id that was sent, None if there is none. Raises TOKEN_UNKNOWN (for a wrong secret too, so
    that ids cannot be probed), TOKEN_USED, TOKEN_EXPIRED (for a revoked token too), CSR_INVALID.
    """
    expected = record.secret_sha256 if record else _NOBODY
    matches = hmac.compare_digest(hashlib.sha256(secret).digest(), expected)
    if record is None or not matches:
        raise QuantfleetError(ErrorCode.TOKEN_UNKNOWN, "the coordinator does not know this token", _ASK)
    if record.revoked:
        raise QuantfleetError(ErrorCode.TOKEN_EXPIRED, f"the token for {record.name!r} was revoked", _ASK)
    owner = _fingerprint(public_key_of(csr_pem))
    if record.redeemed_by:
        if record.redeemed_by != owner:
            raise QuantfleetError(ErrorCode.TOKEN_USED, f"the token for {record.name!r} was used already", _ASK)
        return Redemption(record, None, record.certificate_pem.encode())
    if now >= record.expires_at:
        raise QuantfleetError(ErrorCode.TOKEN_EXPIRED, f"the token for {record.name!r} has expired", _ASK)
    if record.purpose == "node":
        issued = authority.issue_node(csr_pem, record.name)
    else:
        issued = authority.issue_user(csr_pem, record.name, Role.named(record.role))
    burnt = dataclasses.replace(record, redeemed_by=owner, certificate_pem=issued.certificate_pem.decode())
    return Redemption(burnt, issued.record, issued.certificate_pem)


def _fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()
