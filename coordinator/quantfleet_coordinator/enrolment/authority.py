"""The fleet's certificate authority: its key, its bundle, and what it issues. Not for who may have a certificate.

X.509 as RFC 5280 profiles it, P-256 keys, ECDSA with SHA-256. Every name in a certificate is written here; those of a
signing request are ignored.
"""

import datetime
import ipaddress
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from quantfleet_coordinator.enrolment.records import CertificateRecord
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.identity import NAME, TARGET_NAME, Kind, Role, serial_of
from quantfleet_wire.identity_files import BACKDATED_S, make_key, write_private

DAY_S: Final = 86_400.0
_AUTHORITY_LIFETIME_S: Final = 3650 * DAY_S
_SERVER_LIFETIME_S: Final = 397 * DAY_S
# It is made anew at every start: a host whose clock is hours behind must find its coordinator after a restart too.
_SERVER_BACKDATED_S: Final = DAY_S
_FLEET_URI: Final = "spiffe://"


@dataclass(frozen=True)
class Issued:
    """A new certificate (PEM) and what to remember of it."""

    certificate_pem: bytes
    record: CertificateRecord


@dataclass(frozen=True)
class ServerIdentity:
    """The coordinator's own certificate and key (PEM), made anew at every start."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)


class Authority:
    """Issues the certificates of one fleet; `Authority.open` loads or creates it.

    `bundle_pem` is what others trust: the certificate of the key first, then those of an authority that is being
    phased in or out. `clock` gives Unix seconds.
    """

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        bundle_pem: bytes,
        *,
        node_lifetime_s: float = DAY_S,
        user_lifetime_s: float = 90 * DAY_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._certificate = x509.load_pem_x509_certificates(bundle_pem)[0]
        self._node_lifetime_s = node_lifetime_s
        self._user_lifetime_s = user_lifetime_s
        self._clock = clock
        self.bundle_pem = bundle_pem
        self.fleet = _fleet_of(self._certificate)

    @classmethod
    def open(
        cls,
        directory: Path,
        fleet: str,
        *,
        node_lifetime_s: float = DAY_S,
        user_lifetime_s: float = 90 * DAY_S,
        clock: Callable[[], float] = time.time,
    ) -> "Authority":
        """Load the authority in `directory` (0700; ca-key.pem 0600, ca.pem), or create it for `fleet`.

        Raises CREDENTIALS_INVALID where the files are damaged, do not belong together or are of another fleet.
        """
        key_path, bundle_path = directory / "ca-key.pem", directory / "ca.pem"
        if not bundle_path.exists():
            # The bundle is written last: without it nothing was issued, and a key alone is of a start that was killed.
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
            key_pem = make_key()
            write_private(key_path, key_pem)
            write_private(bundle_path, _self_signed(_private_key(key_pem), fleet, clock()))
        try:
            authority = cls(
                _private_key(key_path.read_bytes()),
                bundle_path.read_bytes(),
                node_lifetime_s=node_lifetime_s,
                user_lifetime_s=user_lifetime_s,
                clock=clock,
            )
        except (OSError, ValueError, IndexError, x509.ExtensionNotFound) as error:
            raise _damaged(directory, str(error)) from error
        if authority._certificate.public_key() != authority._key.public_key():
            raise _damaged(directory, "ca-key.pem is not the key of the first certificate in ca.pem")
        if authority.fleet != fleet:
            raise _damaged(directory, f"it is of the fleet {authority.fleet!r}, not {fleet!r}")
        return authority

    def issue_server(self, addresses: Sequence[str] = ()) -> ServerIdentity:
        """A certificate for the coordinator under the fixed name, `localhost` and `addresses` (host names or IPs)."""
        key_pem = make_key()
        names: list[x509.GeneralName] = [x509.DNSName(TARGET_NAME)]
        names += [_host_name(address) for address in dict.fromkeys(("localhost", "127.0.0.1", "::1", *addresses))]
        certificate = self._sign(
            _private_key(key_pem).public_key(),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, TARGET_NAME)]),
            names,
            ExtendedKeyUsageOID.SERVER_AUTH,
            _SERVER_LIFETIME_S,
            _SERVER_BACKDATED_S,
        )
        return ServerIdentity(certificate.public_bytes(serialization.Encoding.PEM), key_pem)

    def issue_node(self, csr_pem: bytes, name: str) -> Issued:
        """A certificate for the node `name` and the request's key; CSR_INVALID, or USAGE for a name that none may have.

        Takes from the request nothing but its public key.
        """
        return self._issue(csr_pem, "node", name, None)

    def issue_user(self, csr_pem: bytes, name: str, role: Role) -> Issued:
        """A certificate for the user `name` with `role` and the request's key; errors as in `issue_node`."""
        return self._issue(csr_pem, "user", name, role)

    def _issue(self, csr_pem: bytes, kind: Kind, name: str, role: Role | None) -> Issued:
        check_name(name)
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if role is not None:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, str(role)))
        certificate = self._sign(
            public_key_of(csr_pem),
            x509.Name(attributes),
            [x509.UniformResourceIdentifier(f"{_FLEET_URI}{self.fleet}/{kind}/{name}")],
            ExtendedKeyUsageOID.CLIENT_AUTH,
            self._node_lifetime_s if kind == "node" else self._user_lifetime_s,
        )
        record = CertificateRecord(
            serial=serial_of(certificate),
            kind=kind,
            name=name,
            role="" if role is None else str(role),
            not_after=certificate.not_valid_after_utc.timestamp(),
        )
        return Issued(certificate.public_bytes(serialization.Encoding.PEM), record)

    def _sign(
        self,
        public_key: ec.EllipticCurvePublicKey,
        subject: x509.Name,
        names: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        lifetime_s: float,
        backdated_s: float = BACKDATED_S,
    ) -> x509.Certificate:
        issuer = self._certificate
        return (
            _builder(public_key, subject, issuer.subject, self._clock(), lifetime_s, backdated_s)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(_issued_by(issuer), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def check_name(name: str) -> None:
    """Raise USAGE unless `name` may name a node, a user or a fleet."""
    if not NAME.fullmatch(name):
        todo = "use up to 63 letters, digits, dots, hyphens and underscores, a letter or digit first"
        raise QuantfleetError(ErrorCode.USAGE, f"{name!r} is not a name", todo)


def public_key_of(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """The P-256 key of a signing request (PKCS #10 PEM) that its owner has signed; CSR_INVALID otherwise."""
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        key, signed = csr.public_key(), csr.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise _bad_request("it cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _bad_request("its key is not a P-256 key")
    if not signed:
        raise _bad_request("it is not signed by its own key")
    return key


def _self_signed(key: ec.EllipticCurvePrivateKey, fleet: str, now: float) -> bytes:
    check_name(fleet)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, fleet)])
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(_FLEET_URI + fleet)])
    certificate = (
        _builder(key.public_key(), subject, subject, now, _AUTHORITY_LIFETIME_S)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    key: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    issuer: x509.Name,
    now: float,
    lifetime_s: float,
    backdated_s: float = BACKDATED_S,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_utc(now - backdated_s))
        .not_valid_after(_utc(now + lifetime_s))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _issued_by(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _fleet_of(certificate: x509.Certificate) -> str:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    return uri.removeprefix(_FLEET_URI)


def _private_key(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the key is not an elliptic-curve key")
    return key


def _host_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _utc(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)


def _bad_request(why: str) -> QuantfleetError:
    todo = "send a PKCS #10 request with a P-256 key"
    return QuantfleetError(ErrorCode.CSR_INVALID, f"the signing request is refused: {why}", todo)


def _damaged(directory: Path, why: str) -> QuantfleetError:
    todo = "restore the directory from a backup; a new authority means that every node and user enrols again"
    return QuantfleetError(ErrorCode.CREDENTIALS_INVALID, f"the authority in {directory} cannot be used: {why}", todo)
