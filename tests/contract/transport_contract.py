"""What every way to a phone does: subclass `TransportContract` with a `transport` fixture, and `VanishingContract` with
a `link` fixture too where the phone can go away. The phone of these tests is this host, so what it does can be seen."""

import os
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Protocol

import psutil
import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.phones.transports.base import Transport

BRIEF_S = 20.0
BYTES = bytes(range(256)) * 3000 + b"\r\n\x00\x04end"
LONG = f"86399.{os.getpid()}"
"""How an argument of `sleep` begins that nobody else uses, so that the process can be told from others."""


class Link(Protocol):
    def vanish(self) -> None: ...

    def come_back(self) -> None: ...


def sleepers(argument: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["cmdline"] == ["sleep", argument] and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + BRIEF_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TransportContract:
    def test_a_file_comes_back_as_it_went(self, transport: Transport, tmp_path: Path) -> None:
        (tmp_path / "sent").write_bytes(BYTES)
        with transport.workdir() as directory:
            transport.push(tmp_path / "sent", f"{directory}/kept")
            transport.pull(f"{directory}/kept", tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == BYTES

    def test_an_empty_file_comes_back_empty(self, transport: Transport, tmp_path: Path) -> None:
        (tmp_path / "sent").write_bytes(b"")
        with transport.workdir() as directory:
            transport.push(tmp_path / "sent", f"{directory}/kept")
            transport.pull(f"{directory}/kept", tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == b""

    @pytest.mark.parametrize("name", ["two words", "größe-模型", 'it\'s $HOME; `x` "y" *', "-n"])
    def test_names_mean_themselves(self, transport: Transport, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("content")
        with transport.workdir() as directory:
            transport.push(tmp_path / name, f"{directory}/{name}")
            assert transport.run(["cat", f"{directory}/{name}"], BRIEF_S).stdout == "content"
            transport.pull(f"{directory}/{name}", tmp_path / f"{name} again")
        assert (tmp_path / f"{name} again").read_text() == "content"

    def test_only_what_is_pushed_as_a_program_can_be_run(self, transport: Transport, tmp_path: Path) -> None:
        (tmp_path / "tool").write_text("#!/bin/sh\necho ran $1\n")
        with transport.workdir() as directory:
            transport.push(tmp_path / "tool", f"{directory}/program", executable=True)
            transport.push(tmp_path / "tool", f"{directory}/file")
            assert transport.run([f"{directory}/program", "well"], BRIEF_S).stdout == "ran well\n"
            assert transport.run([f"{directory}/file"], BRIEF_S).code == 126

    def test_a_push_replaces_what_was_there(self, transport: Transport, tmp_path: Path) -> None:
        with transport.workdir() as directory:
            for content in ("a long first content", "second"):
                (tmp_path / "sent").write_text(content)
                transport.push(tmp_path / "sent", f"{directory}/kept")
            assert transport.run(["cat", f"{directory}/kept"], BRIEF_S).stdout == "second"

    def test_the_streams_are_apart_and_the_exit_code_is_the_programs(self, transport: Transport) -> None:
        ran = transport.run(["sh", "-c", "echo out; echo err >&2; printf more; exit 7"], BRIEF_S)
        assert (ran.code, ran.stdout, ran.stderr) == (7, "out\nmore", "err\n")

    @pytest.mark.parametrize("code", [0, 1, 255])
    def test_no_exit_code_is_taken_for_a_lost_link(self, transport: Transport, code: int) -> None:
        assert transport.run(["sh", "-c", f"exit {code}"], BRIEF_S).code == code

    def test_a_program_that_a_signal_ended_has_128_and_its_number(self, transport: Transport) -> None:
        ran = transport.run(["sh", "-c", "printf said; kill -s ABRT $$"], BRIEF_S)
        assert (ran.code, ran.stdout) == (134, "said")

    def test_a_program_that_is_not_there_is_the_programs_failure(self, transport: Transport) -> None:
        ran = transport.run(["/no/such/program"], BRIEF_S)
        assert ran.code == 127
        assert "/no/such/program" in ran.stderr

    def test_no_shell_touches_the_arguments(self, transport: Transport) -> None:
        words = ["two words", "", "it's", '"$HOME"', "`id`; exit 3", "a\nb", "*", "größe", "~", "\\n"]
        ran = transport.run(["printf", "[%s]", *words], BRIEF_S)
        assert ran.stdout == "".join(f"[{word}]" for word in words)

    def test_a_variable_goes_in_by_env(self, transport: Transport) -> None:
        assert transport.run(["env", "WORD=a b", "sh", "-c", 'echo "$WORD"'], BRIEF_S).stdout == "a b\n"

    def test_a_program_gets_no_input(self, transport: Transport) -> None:
        assert transport.run(["cat"], BRIEF_S).code == 0

    def test_bytes_that_are_no_text_are_shown_as_such(self, transport: Transport) -> None:
        assert transport.run(["printf", r"a\377b"], BRIEF_S).stdout == "a\ufffdb"

    def test_much_output_comes_whole(self, transport: Transport) -> None:
        ran = transport.run(["sh", "-c", "seq 1 40000; seq 1 40000 >&2"], BRIEF_S)
        wanted = "".join(f"{number}\n" for number in range(1, 40001))
        assert (ran.stdout == wanted, ran.stderr == wanted) == (True, True)

    def test_a_program_that_is_not_done_in_time_is_killed_with_what_it_started(self, transport: Transport) -> None:
        with pytest.raises(QuantfleetError, match="not done after 1 s") as caught:
            transport.run(["sh", "-c", f"sleep {LONG}1 & sleep {LONG}1; echo no"], 1)
        assert caught.value.code is ErrorCode.PHONE_LOST
        wait_until(lambda: not sleepers(f"{LONG}1"))

    def test_a_program_ends_with_the_process_that_wanted_it(self, transport: Transport) -> None:
        command = ["sh", "-c", f"sleep {LONG}3; echo no"]
        wanting = get_context("spawn").Process(target=transport.run, args=(command, BRIEF_S))
        wanting.start()
        wait_until(lambda: sleepers(f"{LONG}3"))
        wanting.kill()
        wanting.join()
        wait_until(lambda: not sleepers(f"{LONG}3"))

    def test_the_directory_of_a_run_is_fresh_and_is_removed_with_what_is_in_it(self, transport: Transport) -> None:
        with transport.workdir() as directory, transport.workdir() as other:
            assert directory.startswith(f"{transport.directory}/")
            assert other != directory
            assert transport.run(["ls", "-A", directory], BRIEF_S).stdout == ""
            transport.run(["mkdir", "-p", f"{directory}/deep/er"], BRIEF_S)
        assert transport.run(["ls", "-A", transport.directory], BRIEF_S).stdout == ""

    def test_the_directory_is_removed_after_an_error_and_the_error_is_kept(self, transport: Transport) -> None:
        with pytest.raises(ZeroDivisionError), transport.workdir() as directory:
            raise ZeroDivisionError
        assert transport.run(["ls", directory], BRIEF_S).code != 0

    def test_what_a_lost_run_left_is_removed_when_it_is_a_day_old(self, transport: Transport) -> None:
        with transport.workdir() as directory:
            left, young, other = (
                f"{transport.directory}/{name}" for name in ("quantfleet-run-old", "quantfleet-run-new", "kept")
            )
            transport.run(["mkdir", left, young, other], BRIEF_S)
            transport.run(["touch", "-t", "202001010000", left, other], BRIEF_S)
            with transport.workdir() as second:
                here = transport.run(["ls", transport.directory], BRIEF_S).stdout.split()
            transport.run(["rm", "-r", young, other], BRIEF_S)
        assert {Path(place).name for place in (directory, second, young, other)} == set(here)

    def test_a_file_that_the_phone_does_not_have_is_no_lost_phone(self, transport: Transport, tmp_path: Path) -> None:
        (tmp_path / "got").write_text("before")
        with transport.workdir() as directory, pytest.raises(QuantfleetError, match="none") as caught:
            transport.pull(f"{directory}/none", tmp_path / "got")
        assert caught.value.code is ErrorCode.ENGINE_FAILED
        assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == {"got": "before"}

    def test_a_file_that_the_phone_cannot_take_is_no_lost_phone(self, transport: Transport, tmp_path: Path) -> None:
        (tmp_path / "sent").write_text("content")
        with transport.workdir() as directory, pytest.raises(QuantfleetError, match="nowhere") as caught:
            transport.push(tmp_path / "sent", f"{directory}/nowhere/kept")
        assert caught.value.code is ErrorCode.ENGINE_FAILED

    def test_a_file_that_is_not_here_is_the_callers_error(self, transport: Transport, tmp_path: Path) -> None:
        with transport.workdir() as directory, pytest.raises(FileNotFoundError):
            transport.push(tmp_path / "none", f"{directory}/kept")

    def test_without_its_client_it_says_how_to_install_it(
        self, transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "sent").write_text("content")
        (tmp_path / "nothing").mkdir()
        monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
        calls: list[Callable[[], object]] = [lambda: transport.run(["true"], BRIEF_S)]
        if transport.kind != "local":
            calls.append(lambda: transport.push(tmp_path / "sent", "/kept"))
            calls.append(lambda: transport.pull("/kept", tmp_path / "got"))
        for call in calls:
            with pytest.raises(QuantfleetError, match=f"{transport.client} is not installed") as caught:
                call()
            assert caught.value.code is ErrorCode.ENGINE_MISSING
            assert caught.value.todo == transport.install


class VanishingContract:
    def test_a_phone_that_vanishes_in_the_middle_of_a_command_is_lost(self, transport: Transport, link: Link) -> None:
        with pytest.raises(QuantfleetError) as caught:
            self._run_while(transport, link.vanish)
        assert caught.value.code is ErrorCode.PHONE_LOST
        assert transport.address in caught.value.what

    def test_a_program_ends_with_its_link(self, transport: Transport, link: Link) -> None:
        with pytest.raises(QuantfleetError):
            self._run_while(transport, link.vanish)
        wait_until(lambda: not sleepers(f"{LONG}2"))

    def test_a_phone_that_came_back_works_again(self, transport: Transport, link: Link, tmp_path: Path) -> None:
        link.vanish()
        (tmp_path / "sent").write_text("content")
        for call in (
            lambda: transport.run(["true"], BRIEF_S),
            lambda: transport.push(tmp_path / "sent", f"{transport.directory}/kept"),
            lambda: transport.pull(f"{transport.directory}/kept", tmp_path / "got"),
        ):
            with pytest.raises(QuantfleetError) as caught:
                call()
            assert caught.value.code is ErrorCode.PHONE_LOST
        assert not (tmp_path / "got").exists()
        link.come_back()
        wait_until(lambda: self._answers(transport))

    def test_what_was_done_counts_although_the_directory_cannot_be_removed(
        self, transport: Transport, link: Link
    ) -> None:
        with transport.workdir():
            link.vanish()

    def _run_while(self, transport: Transport, happens: Callable[[], None]) -> None:
        def then() -> None:
            wait_until(lambda: sleepers(f"{LONG}2"))
            happens()

        thread = Thread(target=then)
        thread.start()
        try:
            transport.run(["sh", "-c", f"echo started; sleep {LONG}2"], BRIEF_S)
        finally:
            thread.join()

    def _answers(self, transport: Transport) -> bool:
        try:
            return transport.run(["true"], BRIEF_S).code == 0
        except QuantfleetError:
            return False
