"""What the way over adb does beside the contracts of all ways, whichever client program it is."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.contract.transport_contract import BRIEF_S, TransportContract, VanishingContract

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.execution.strays import MARK
from quantfleet_worker.phones.testing import AdbDevice, AdbServer
from quantfleet_worker.phones.transports.adb import AdbTransport

BIG = bytes(16 << 20)


class AdbContract(TransportContract, VanishingContract):
    """The subclass has a fixture `adb_server` over its client."""

    @pytest.fixture
    def link(self, adb_server: AdbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdbDevice]:
        for name, value in adb_server.environment.items():
            monkeypatch.setenv(name, value)
        with AdbDevice(tmp_path / "phone") as device:
            adb_server.connect(device.address)
            yield device

    @pytest.fixture
    def transport(self, link: AdbDevice) -> AdbTransport:
        return AdbTransport(link.address)

    @pytest.mark.usefixtures("link")
    def test_a_serial_number_that_is_not_connected_is_a_lost_phone(self, tmp_path: Path) -> None:
        nobody = AdbTransport("NOBODY'S")
        (tmp_path / "sent").write_text("content")
        for call in (
            lambda: nobody.run(["true"], BRIEF_S),
            lambda: nobody.push(tmp_path / "sent", "/data/local/tmp/kept"),
            lambda: nobody.pull("/data/local/tmp/kept", tmp_path / "got"),
        ):
            with pytest.raises(QuantfleetError, match=r"NOBODY'S.* not found") as caught:
                call()
            assert caught.value.code is ErrorCode.PHONE_LOST
            assert "`adb devices`" in caught.value.todo

    @pytest.mark.usefixtures("link")
    def test_a_phone_that_does_not_trust_this_host_says_where_to_accept_it(
        self, adb_server: AdbServer, tmp_path: Path
    ) -> None:
        (tmp_path / "sent").write_text("content")
        with AdbDevice(tmp_path / "wary", accepts=False) as device:
            adb_server.connect(device.address)
            phone = AdbTransport(device.address)
            for call in (
                lambda: phone.run(["true"], BRIEF_S),
                lambda: phone.push(tmp_path / "sent", "/data/local/tmp/kept"),
            ):
                with pytest.raises(QuantfleetError, match="does not trust this host") as caught:
                    call()
                assert caught.value.code is ErrorCode.PHONE_LOST
                assert "accept the dialog" in caught.value.todo

    def test_a_phone_that_vanishes_while_it_takes_a_file_is_lost(
        self, link: AdbDevice, transport: AdbTransport, tmp_path: Path
    ) -> None:
        (tmp_path / "big").write_bytes(BIG)
        with transport.workdir() as directory:
            link.vanish_after(len(BIG) // 4)
            with pytest.raises(QuantfleetError) as caught:
                transport.push(tmp_path / "big", f"{directory}/big")
        assert caught.value.code is ErrorCode.PHONE_LOST

    def test_a_phone_that_vanishes_while_it_gives_a_file_is_lost_and_leaves_no_part_of_it(
        self, link: AdbDevice, transport: AdbTransport, tmp_path: Path
    ) -> None:
        (tmp_path / "big").write_bytes(BIG)
        with transport.workdir() as directory:
            transport.push(tmp_path / "big", f"{directory}/big")
            link.vanish_after(len(BIG) // 4)
            with pytest.raises(QuantfleetError) as caught:
                transport.pull(f"{directory}/big", tmp_path / "got")
        assert caught.value.code is ErrorCode.PHONE_LOST
        assert not list(tmp_path.glob("got*"))

    def test_a_server_that_it_has_to_start_is_no_stray_of_the_worker(
        self, adb_server: AdbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = AdbServer(adb_server.client, tmp_path)
        for name, value in {**own.environment, MARK: f"{tmp_path}:cpu:0/0"}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(QuantfleetError, match="not found"):
            AdbTransport("NOBODY'S").run(["true"], BRIEF_S)
        try:
            (environment,) = [
                process.environ()
                for process in psutil.process_iter(["cmdline"])
                if {"fork-server", f"tcp:{own.port}"} <= {*(process.info["cmdline"] or ())}
            ]
            assert environment["ANDROID_ADB_SERVER_PORT"] == str(own.port)
            assert MARK not in environment
        finally:
            own.stop()
