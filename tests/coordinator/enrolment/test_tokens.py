"""A token lets one key in, once, in time; whoever else brings it is told why not."""

from dataclasses import replace
from pathlib import Path

import pytest

from quantfleet_coordinator.enrolment import tokens
from quantfleet_coordinator.enrolment.authority import Authority
from quantfleet_coordinator.enrolment.records import TokenRecord
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.identity import Role, parse_peer
from quantfleet_wire.identity_files import make_csr, make_key

NOW = 1_800_000_000.0
TTL_S = 900.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path, "acme", clock=lambda: NOW)


@pytest.fixture
def csr() -> bytes:
    return make_csr(make_key(), "whoever")


def refusal(record: TokenRecord | None, secret: bytes, csr: bytes, authority: Authority, now: float = NOW) -> ErrorCode:
    with pytest.raises(QuantfleetError) as caught:
        tokens.redeem(record, secret, csr, now, authority)
    return caught.value.code


def test_a_token_becomes_the_member_that_it_was_made_for(authority: Authority, csr: bytes) -> None:
    record, secret = tokens.create("user", "ada", Role.SUBMITTER, NOW, TTL_S)
    redeemed = tokens.redeem(record, secret, csr, NOW + 1, authority)
    peer = parse_peer(redeemed.certificate_pem)
    assert (peer.kind, peer.name, peer.role) == ("user", "ada", Role.SUBMITTER)
    assert redeemed.certificate is not None
    assert redeemed.certificate.serial == peer.serial
    assert redeemed.token.redeemed_by
    assert redeemed.token.certificate_pem == redeemed.certificate_pem.decode()


def test_the_secret_is_not_in_the_record() -> None:
    record, secret = tokens.create("node", "t4-01", None, NOW, TTL_S)
    assert len(secret) == 32
    assert secret not in record.secret_sha256
    assert secret.hex() not in repr(record)
    assert secret != tokens.create("node", "t4-01", None, NOW, TTL_S)[1]


def test_a_retry_with_the_same_key_gets_the_same_certificate(authority: Authority) -> None:
    record, secret = tokens.create("node", "t4-01", None, NOW, TTL_S)
    key = make_key()
    first = tokens.redeem(record, secret, make_csr(key, "a"), NOW, authority)
    again = tokens.redeem(first.token, secret, make_csr(key, "b"), NOW + 2 * TTL_S, authority)
    assert again.certificate_pem == first.certificate_pem
    assert again.certificate is None
    assert again.token == first.token


def test_another_key_finds_the_token_used(authority: Authority, csr: bytes) -> None:
    record, secret = tokens.create("node", "t4-01", None, NOW, TTL_S)
    used = tokens.redeem(record, secret, csr, NOW, authority).token
    assert refusal(used, secret, make_csr(make_key(), "whoever"), authority) is ErrorCode.TOKEN_USED


def test_a_token_expires(authority: Authority, csr: bytes) -> None:
    record, secret = tokens.create("node", "t4-01", None, NOW, TTL_S)
    assert refusal(record, secret, csr, authority, NOW + TTL_S) is ErrorCode.TOKEN_EXPIRED
    assert tokens.redeem(record, secret, csr, NOW + TTL_S - 1, authority).certificate


def test_an_unknown_id_and_a_wrong_secret_cannot_be_told_apart(authority: Authority, csr: bytes) -> None:
    record, secret = tokens.create("node", "t4-01", None, NOW, TTL_S)
    texts = set()
    for known, tried in ((None, secret), (record, bytes(32)), (record, b""), (None, b"")):
        with pytest.raises(QuantfleetError) as caught:
            tokens.redeem(known, tried, csr, NOW, authority)
        texts.add((caught.value.code, str(caught.value)))
    assert {code for code, _ in texts} == {ErrorCode.TOKEN_UNKNOWN}
    assert len(texts) == 1


def test_a_revoked_token_is_good_for_nothing(authority: Authority, csr: bytes) -> None:
    record, secret = tokens.create("node", "t4-01", None, NOW, TTL_S)
    assert refusal(replace(record, revoked=True), secret, csr, authority) is ErrorCode.TOKEN_EXPIRED
    used = tokens.redeem(record, secret, csr, NOW, authority).token
    assert refusal(replace(used, revoked=True), secret, csr, authority) is ErrorCode.TOKEN_EXPIRED


def test_a_bad_request_does_not_burn_the_token(authority: Authority, csr: bytes) -> None:
    record, secret = tokens.create("node", "t4-01", None, NOW, TTL_S)
    assert refusal(record, secret, b"nonsense", authority) is ErrorCode.CSR_INVALID
    assert tokens.redeem(record, secret, csr, NOW, authority).certificate


def test_a_token_for_nobody_cannot_be_made() -> None:
    for purpose, name, role, ttl_s in (
        ("node", "a/b", None, TTL_S),
        ("node", "t4-01", Role.ADMIN, TTL_S),
        ("user", "ada", None, TTL_S),
        ("node", "t4-01", None, 0.0),
        ("node", "t4-01", None, float("nan")),
    ):
        with pytest.raises(QuantfleetError) as caught:
            tokens.create(purpose, name, role, NOW, ttl_s)  # type: ignore[arg-type]  # a row of mixed types
        assert caught.value.code is ErrorCode.USAGE
