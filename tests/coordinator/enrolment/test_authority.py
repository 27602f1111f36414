"""The authority writes every name itself, guards its key and refuses requests that prove nothing."""

import ipaddress
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from tests.wire.pki import Fleet

from quantfleet_coordinator.enrolment.authority import Authority, ServerIdentity
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.identity import TARGET_NAME, Role, parse_peer
from quantfleet_wire.identity_files import make_csr, make_key

NOW = 1_800_000_000.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "ca", "acme", node_lifetime_s=3600.0, clock=lambda: NOW)


def greedy_csr(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """A request that asks for everything."""
    subject = [
        x509.NameAttribute(NameOID.COMMON_NAME, "root"),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "admin"),
    ]
    names = [x509.UniformResourceIdentifier("spiffe://acme/user/root"), x509.DNSName(TARGET_NAME)]
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name(subject))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def test_nothing_of_a_request_but_its_key_is_used(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issued = authority.issue_node(greedy_csr(key), "t4-01")
    certificate = x509.load_pem_x509_certificate(issued.certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["spiffe://acme/node/t4-01"]
    assert certificate.subject.rfc4514_string() == "CN=t4-01"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.public_key() == key.public_key()
    peer = parse_peer(issued.certificate_pem)
    assert (peer.kind, peer.name, peer.fleet, peer.role) == ("node", "t4-01", "acme", None)


def test_a_coordinator_started_just_now_can_be_found_by_a_host_whose_clock_is_hours_behind(
    authority: Authority,
) -> None:
    certificate = x509.load_pem_x509_certificate(authority.issue_server().certificate_pem)
    assert certificate.not_valid_before_utc.timestamp() == NOW - 24 * 3600


def test_a_user_has_the_role_that_it_was_issued(authority: Authority) -> None:
    csr = greedy_csr(ec.generate_private_key(ec.SECP256R1()))
    issued = authority.issue_user(csr, "ada", Role.VIEWER)
    peer = parse_peer(issued.certificate_pem)
    assert (peer.kind, peer.name, peer.role) == ("user", "ada", Role.VIEWER)
    assert (issued.record.kind, issued.record.name, issued.record.role) == ("user", "ada", "viewer")
    assert (issued.record.serial, issued.record.not_after) == (peer.serial, peer.not_after)


def test_a_certificate_lives_as_long_as_was_said_and_a_minute_backwards(authority: Authority) -> None:
    issued = authority.issue_node(make_csr(make_key(), "whoever"), "t4-01")
    certificate = x509.load_pem_x509_certificate(issued.certificate_pem)
    assert certificate.not_valid_before_utc.timestamp() == NOW - 60
    assert certificate.not_valid_after_utc.timestamp() == issued.record.not_after == NOW + 3600


def test_requests_that_prove_no_p256_key_are_refused(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    der = bytearray(x509.load_pem_x509_csr(greedy_csr(key)).public_bytes(Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)
    large = greedy_csr(ec.generate_private_key(ec.SECP384R1()))
    for csr in (b"", b"not a request", forged, large, greedy_csr(rsa.generate_private_key(65537, 2048))):
        with pytest.raises(QuantfleetError) as caught:
            authority.issue_node(csr, "t4-01")
        assert caught.value.code is ErrorCode.CSR_INVALID


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "-a", ".", "a b", "ü", "a" * 64, "a\n", "x/../y"])
def test_names_that_would_read_as_something_else_are_refused(authority: Authority, name: str) -> None:
    with pytest.raises(QuantfleetError) as caught:
        authority.issue_node(make_csr(make_key(), "whoever"), name)
    assert caught.value.code is ErrorCode.USAGE


def test_the_coordinator_has_the_fixed_name_and_its_addresses(authority: Authority) -> None:
    identity = authority.issue_server(["fleet.example", "10.0.0.7"])
    certificate = x509.load_pem_x509_certificate(identity.certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [TARGET_NAME, "localhost", "fleet.example"]
    assert ipaddress.ip_address("10.0.0.7") in names.get_values_for_type(x509.IPAddress)
    assert isinstance(identity, ServerIdentity)
    assert "PRIVATE" not in repr(identity)


def test_an_authority_is_the_same_after_a_restart(tmp_path: Path) -> None:
    first, second = Fleet(tmp_path), Fleet(tmp_path)
    assert first.authority.bundle_pem == second.authority.bundle_pem
    root = x509.load_pem_x509_certificate(first.authority.bundle_pem)
    x509.load_pem_x509_certificate(second.node().certificate_pem).verify_directly_issued_by(root)


def test_the_key_of_the_authority_is_its_owners_alone(tmp_path: Path, authority: Authority) -> None:
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "ca" / "ca-key.pem").stat().st_mode) == 0o600
    assert authority.fleet == "acme"


def test_a_first_start_that_was_killed_is_begun_again(tmp_path: Path) -> None:
    Fleet(tmp_path)
    (tmp_path / "ca.pem").unlink()
    assert Fleet(tmp_path).node().certificate_pem


@pytest.mark.parametrize("name", ["ca.pem", "ca-key.pem"])
def test_a_damaged_authority_is_never_replaced_silently(tmp_path: Path, name: str) -> None:
    Fleet(tmp_path)
    (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(QuantfleetError) as caught:
        Fleet(tmp_path)
    assert caught.value.code is ErrorCode.CREDENTIALS_INVALID
    assert (tmp_path / name).read_bytes() == b"damaged"


def test_a_key_of_another_authority_or_fleet_is_refused(tmp_path: Path) -> None:
    Fleet(tmp_path / "a")
    Fleet(tmp_path / "b")
    with pytest.raises(QuantfleetError, match="of the fleet 'acme', not 'other'"):
        Fleet(tmp_path / "a", "other")
    (tmp_path / "a" / "ca-key.pem").write_bytes((tmp_path / "b" / "ca-key.pem").read_bytes())
    with pytest.raises(QuantfleetError, match="not the key"):
        Fleet(tmp_path / "a")
