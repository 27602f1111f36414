"""Credentials on disk: private, replaced all together, and refused when they are damaged or were open to others."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from tests.wire.pki import Fleet

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.identity_files import (
    Credentials,
    load_credentials,
    make_csr,
    pending_key,
    renewal_due,
    save_credentials,
)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path / "ca")


@pytest.fixture
def credentials(fleet: Fleet) -> Credentials:
    return replace(fleet.node(), address="fleet.example:7070")


def code_of_loading(directory: Path) -> ErrorCode:
    with pytest.raises(QuantfleetError) as caught:
        load_credentials(directory)
    assert str(directory) in caught.value.what
    return caught.value.code


def test_what_was_saved_is_loaded(tmp_path: Path, credentials: Credentials) -> None:
    save_credentials(tmp_path / "node", credentials)
    assert load_credentials(tmp_path / "node") == credentials


def test_nobody_else_can_read_what_was_saved(tmp_path: Path, credentials: Credentials) -> None:
    directory = tmp_path / "node"
    save_credentials(directory, credentials)
    for path in [directory, *directory.rglob("*")]:
        if not path.is_symlink():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_saving_again_replaces_all_and_leaves_nothing_behind(
    tmp_path: Path, fleet: Fleet, credentials: Credentials
) -> None:
    save_credentials(tmp_path / "node", credentials)
    renewed = replace(fleet.node(), address="elsewhere:1")
    save_credentials(tmp_path / "node", renewed)
    assert load_credentials(tmp_path / "node") == renewed
    assert len(list((tmp_path / "node").iterdir())) == 2  # the link and what it names


def test_a_save_that_was_killed_leaves_the_former_credentials(
    tmp_path: Path, fleet: Fleet, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "node"
    save_credentials(directory, credentials)

    def killed(self: Path, target: Path) -> Path:
        if target.name == "current":
            raise KeyboardInterrupt
        return original(self, target)

    original = Path.replace
    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_credentials(directory, fleet.node())
    monkeypatch.undo()
    assert load_credentials(directory) == credentials
    renewed = fleet.node()
    save_credentials(directory, renewed)
    assert load_credentials(directory) == renewed


def test_an_empty_directory_has_no_credentials(tmp_path: Path) -> None:
    assert code_of_loading(tmp_path) is ErrorCode.NO_CREDENTIALS
    assert code_of_loading(tmp_path / "absent") is ErrorCode.NO_CREDENTIALS


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem", "key.pem", "address"])
def test_a_missing_file_is_named(tmp_path: Path, credentials: Credentials, name: str) -> None:
    save_credentials(tmp_path, credentials)
    (tmp_path / "current" / name).unlink()
    with pytest.raises(QuantfleetError, match=name) as caught:
        load_credentials(tmp_path)
    assert caught.value.code is ErrorCode.CREDENTIALS_INVALID


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem", "key.pem"])
def test_a_damaged_file_is_an_error(tmp_path: Path, credentials: Credentials, name: str) -> None:
    save_credentials(tmp_path, credentials)
    (tmp_path / "current" / name).write_text("-----BEGIN NOTHING-----")
    assert code_of_loading(tmp_path) is ErrorCode.CREDENTIALS_INVALID


def test_a_key_of_another_certificate_is_an_error(tmp_path: Path, fleet: Fleet, credentials: Credentials) -> None:
    save_credentials(tmp_path, replace(credentials, key_pem=fleet.node().key_pem))
    assert code_of_loading(tmp_path) is ErrorCode.CREDENTIALS_INVALID


def test_a_key_that_others_can_read_is_refused(tmp_path: Path, credentials: Credentials) -> None:
    save_credentials(tmp_path, credentials)
    (tmp_path / "current" / "key.pem").chmod(0o640)
    with pytest.raises(QuantfleetError, match=r"key\.pem can be read by others") as caught:
        load_credentials(tmp_path)
    assert caught.value.code is ErrorCode.CREDENTIALS_INVALID


def test_a_retry_of_joining_uses_the_same_key_until_it_succeeded(tmp_path: Path, credentials: Credentials) -> None:
    key = pending_key(tmp_path / "node")
    assert pending_key(tmp_path / "node") == key
    assert stat.S_IMODE((tmp_path / "node" / "pending-key.pem").stat().st_mode) == 0o600
    save_credentials(tmp_path / "node", credentials)
    assert pending_key(tmp_path / "node") != key


def test_a_request_proves_its_key(credentials: Credentials) -> None:
    csr = x509.load_pem_x509_csr(make_csr(credentials.key_pem, "t4-01"))
    assert csr.is_signature_valid


def test_no_repr_shows_a_key(credentials: Credentials) -> None:
    assert "PRIVATE" not in repr(credentials)


def test_renewal_is_due_after_two_thirds_and_its_jitter(fleet: Fleet) -> None:
    pem = fleet.node().certificate_pem
    certificate = x509.load_pem_x509_certificate(pem)
    start, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    third = (end - start) / 3
    assert not renewal_due(pem, start + 2 * third - 1, 0.0)
    assert renewal_due(pem, start + 2 * third + 1, 0.0)
    assert not renewal_due(pem, start + 2 * third + 1, 1.0)
    assert renewal_due(pem, end - 2 * third / 3, 1.0)
