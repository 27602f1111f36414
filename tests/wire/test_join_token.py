"""A join token survives what people do to it, or says that it did not."""

import base64
import hashlib
from pathlib import Path

import pytest
from tests.wire.pki import Fleet

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.join_token import JoinToken

SECRET = bytes(range(32))


@pytest.fixture
def token(tmp_path: Path) -> JoinToken:
    ca_pem = Fleet(tmp_path).authority.bundle_pem
    return JoinToken("node", "fleet.example:7071", "[::1]:7070", "0123456789abcdef", SECRET, ca_pem)


def test_a_token_says_what_was_put_in(token: JoinToken) -> None:
    text = token.encode()
    assert JoinToken.decode(text) == token
    assert text.startswith("qf1-")
    assert len(text.split()) == 1
    assert len(text) < 800


def test_line_breaks_of_a_terminal_do_no_harm(token: JoinToken) -> None:
    text = token.encode()
    wrapped = "\n  ".join(text[at : at + 80] for at in range(0, len(text), 80))
    assert JoinToken.decode(f" {wrapped}\r\n") == token


def test_every_cut_off_paste_is_malformed(token: JoinToken) -> None:
    text = token.encode()
    for end in range(len(text)):
        with pytest.raises(QuantfleetError, match="not a join token") as caught:
            JoinToken.decode(text[:end])
        assert caught.value.code is ErrorCode.TOKEN_MALFORMED


@pytest.mark.parametrize("text", ["", "hello", "qf2-AAAA", "qf1-", "qf1-ü", "qf1-AAAA", "qf1-" + "A" * 600])
def test_what_never_was_a_token_is_malformed(text: str) -> None:
    with pytest.raises(QuantfleetError) as caught:
        JoinToken.decode(text)
    assert caught.value.code is ErrorCode.TOKEN_MALFORMED


def test_a_mistyped_character_is_malformed(token: JoinToken) -> None:
    text = token.encode()
    for at in range(4, len(text) - 1, 37):
        with pytest.raises(QuantfleetError):
            JoinToken.decode(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])


@pytest.mark.parametrize("body", [b"", b"\x00", b"\x00\x04node", b"\x00\x05robot" + b"\x00\x00" * 5, b"\xff\xff"])
def test_fields_that_are_not_a_tokens_are_malformed_whatever_the_checksum(body: bytes) -> None:
    raw = body + hashlib.sha256(body).digest()[:4]
    with pytest.raises(QuantfleetError, match="fields"):
        JoinToken.decode("qf1-" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode())


def test_the_secret_is_in_no_repr(token: JoinToken) -> None:
    assert repr(SECRET) not in repr(token)
    assert "secret" not in repr(token)
