import getpass
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.transport_contract import BRIEF_S, TransportContract, VanishingContract

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.phones.testing import SshServer
from quantfleet_worker.phones.transports.ssh import SshTransport


@pytest.fixture
def link(tmp_path: Path) -> Iterator[SshServer]:
    program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")
    assert program, "these tests need sshd: sudo apt install openssh-server"
    (tmp_path / "ssh").mkdir()
    with SshServer(Path(program), tmp_path / "ssh") as server:
        yield server


@pytest.fixture
def transport(link: SshServer, tmp_path: Path) -> SshTransport:
    return SshTransport(link.address, str(tmp_path / "phone" / "runs"), link.options)


class TestSsh(TransportContract, VanishingContract):
    pass


def test_a_host_key_that_is_not_known_is_no_question_but_an_error(transport: SshTransport, tmp_path: Path) -> None:
    (tmp_path / "ssh" / "known_hosts").write_text("")
    with pytest.raises(QuantfleetError, match="Host key verification failed") as caught:
        transport.run(["true"], BRIEF_S)
    assert caught.value.code is ErrorCode.PHONE_LOST
    assert "`ssh board true` works from here without a question" in caught.value.todo


def test_a_key_that_is_not_let_in_is_no_question_but_an_error(transport: SshTransport, tmp_path: Path) -> None:
    (tmp_path / "ssh" / "user_key.pub").write_text("")
    with pytest.raises(QuantfleetError, match="Permission denied") as caught:
        transport.run(["true"], BRIEF_S)
    assert caught.value.code is ErrorCode.PHONE_LOST


def test_a_destination_can_be_a_user_and_a_host(link: SshServer, tmp_path: Path) -> None:
    config = tmp_path / "ssh" / "client_config"
    config.write_text(config.read_text().replace("Host board", "Host 127.0.0.1"))
    board = SshTransport(f"{getpass.getuser()}@127.0.0.1", str(tmp_path), link.options)
    assert board.run(["echo", "there"], BRIEF_S).stdout == "there\n"


def test_a_connection_that_the_users_configuration_shares_is_not_shared(
    transport: SshTransport, tmp_path: Path
) -> None:
    config = tmp_path / "ssh" / "client_config"
    config.write_text(f"{config.read_text()}  ControlMaster auto\n  ControlPath {tmp_path}/s\n  ControlPersist yes\n")
    assert transport.run(["true"], BRIEF_S).code == 0
    assert not (tmp_path / "s").exists()


def test_a_silent_host_is_lost(transport: SshTransport, tmp_path: Path) -> None:
    config = tmp_path / "ssh" / "client_config"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kept = [line for line in config.read_text().splitlines() if "Port" not in line]
        config.write_text("\n".join([*kept, f"  Port {silent.getsockname()[1]}"]))
        with pytest.raises(QuantfleetError) as caught:
            transport.run(["true"], 1)
    assert caught.value.code is ErrorCode.PHONE_LOST
