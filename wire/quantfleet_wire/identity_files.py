"""The credentials of a node or a user on its own disk: key, signing request, saving, loading, when to renew.

Not for issuing (the coordinator's enrolment does). A directory holds `current`, a link to the four files {ca.pem,
cert.pem, key.pem, address}: replacing the link replaces them together, so a crash never pairs a key with another
key's certificate.
"""

import os
import secrets
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from quantfleet_domain.errors import ErrorCode, QuantfleetError

BACKDATED_S: Final = 60.0
"""How long before it is issued a certificate begins to be valid, for hosts whose clock is behind the coordinator's."""

_CURRENT: Final = "current"
_PENDING_KEY: Final = "pending-key.pem"
_FILES: Final = ("ca.pem", "cert.pem", "key.pem", "address")
_REJOIN: Final = "enrol with a new token: `quantfleet worker join TOKEN` or `quantfleet login TOKEN`"


@dataclass(frozen=True)
class Credentials:
    """What a channel needs: `address` (host:port), the authority that the server must prove, and one's own proof.

    Without certificate and key it serves for the enrolment port only. All bytes are PEM.
    """

    address: str
    ca_pem: bytes = field(repr=False)
    certificate_pem: bytes = field(default=b"", repr=False)
    key_pem: bytes = field(default=b"", repr=False)


def make_key() -> bytes:
    """A new P-256 private key, PKCS #8 PEM without a password."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def make_csr(key_pem: bytes, name: str) -> bytes:
    """A certificate signing request (PKCS #10 PEM) for the key; `name` is for people, the coordinator ignores it."""
    key = serialization.load_pem_private_key(key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise QuantfleetError(ErrorCode.CREDENTIALS_INVALID, "the key is not an elliptic-curve key", _REJOIN)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM)


def pending_key(directory: Path) -> bytes:
    """The key of an enrolment under way: made and saved (0600) at first, the same on a retry after a crash.

    A token is good for one key; a retry with the same key gets the same certificate. `save_credentials` removes it.
    """
    path = directory / _PENDING_KEY
    if path.exists():
        _refuse_readable_by_others(path)
        return path.read_bytes()
    _make_private(directory)
    key_pem = make_key()
    write_private(path, key_pem)
    return key_pem


def save_credentials(directory: Path, credentials: Credentials) -> None:
    """Put the credentials in place of those in `directory` (0700, created if absent), all together or not at all."""
    _make_private(directory)
    version = directory / f"version-{secrets.token_hex(4)}"
    version.mkdir(mode=0o700)
    contents = (
        credentials.ca_pem,
        credentials.certificate_pem,
        credentials.key_pem,
        f"{credentials.address}\n".encode(),
    )
    for name, content in zip(_FILES, contents, strict=True):
        write_private(version / name, content)
    link = directory / f".{_CURRENT}"
    link.unlink(missing_ok=True)
    link.symlink_to(version.name)
    link.replace(directory / _CURRENT)
    _sync(directory)
    for old in directory.glob("version-*"):
        if old != version:
            shutil.rmtree(old)
    (directory / _PENDING_KEY).unlink(missing_ok=True)


def load_credentials(directory: Path) -> Credentials:
    """The credentials saved in `directory`.

    Raises NO_CREDENTIALS where there are none, CREDENTIALS_INVALID where a file is missing or damaged or where the
    key can be read by others (it is refused, not warned about: it may be copied already).
    """
    # Resolved once, so that all four files are of one version.
    current = (directory / _CURRENT).resolve()
    if not current.is_dir():
        raise QuantfleetError(ErrorCode.NO_CREDENTIALS, f"there are no credentials in {directory}", _REJOIN)
    try:
        _refuse_readable_by_others(current / "key.pem")
        ca, certificate, key, address = ((current / name).read_bytes() for name in _FILES)
        credentials = Credentials(address.decode().strip(), ca, certificate, key)
        x509.load_pem_x509_certificates(ca)
        owner = x509.load_pem_x509_certificate(certificate).public_key()
        matches = serialization.load_pem_private_key(key, password=None).public_key() == owner
    except (OSError, ValueError) as error:
        raise _damaged(directory, str(error)) from error
    if not matches:
        raise _damaged(directory, "key.pem is not the key of cert.pem")
    return credentials


def renewal_due(certificate_pem: bytes, now: float, jitter: float) -> bool:
    """Whether to renew: two thirds of the lifetime are over, plus `jitter` (0 to 1) tenths of it. `now` is Unix s.

    A jitter drawn once per certificate spreads the renewals of nodes that joined together.
    """
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    start, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    return now >= start + (end - start) * (2 / 3 + jitter / 10)


def issued_at(certificate_pem: bytes) -> float:
    """When a certificate was issued, by the coordinator's clock, in Unix seconds."""
    return x509.load_pem_x509_certificate(certificate_pem).not_valid_before_utc.timestamp() + BACKDATED_S


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 atomically: temporary file, fsync, rename, fsync of the directory."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    _sync(path.parent)


def _make_private(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_readable_by_others(path: Path) -> None:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        todo = f"enrol again, for it may have been copied; or, if you know it was not: chmod 600 {path}"
        raise QuantfleetError(ErrorCode.CREDENTIALS_INVALID, f"the private key {path} can be read by others", todo)


def _damaged(directory: Path, why: str) -> QuantfleetError:
    return QuantfleetError(ErrorCode.CREDENTIALS_INVALID, f"the credentials in {directory} are damaged: {why}", _REJOIN)
