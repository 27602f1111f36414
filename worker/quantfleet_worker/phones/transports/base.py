"""The contract of a way to a phone. Every transport passes one contract suite; nothing here knows one."""

import contextlib
import shlex
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar, Literal

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.phones.transports.supervised import Heard, Script, converse

TRANSFER_S = 600.0
"""How long the copy of one file may take: a model of 500 MB over a slow network has its time."""
_CHORE_S = 60.0


@dataclass(frozen=True)
class Ran:
    """How a command on the phone ended: its exit code (128 + n where signal n ended it) and its two streams.

    Bytes that are no UTF-8 are shown as U+FFFD.
    """

    code: int
    stdout: str
    stderr: str


class Transport(ABC):
    """A way to one phone. Calls block; one at a time. Remote paths are absolute, `/` between their parts.

    Every call raises QuantfleetError(PHONE_LOST) where the phone or the link to it is gone or does not answer in time,
    which is nobody's fault and worth another try, and ENGINE_MISSING where the client program is not installed here.
    A phone needs a POSIX shell and `setsid`: Android from 7 on and every Linux with coreutils or BusyBox has them.

    `address` is what the client calls the phone (a serial number, an ssh destination), for messages and reports;
    `directory` is where the directories of runs are made.
    """

    kind: ClassVar[Literal["adb", "ssh", "local"]]
    client: ClassVar[str]
    """The client program."""
    install: ClassVar[str]
    """What installs the client program."""
    advice: ClassVar[str]
    """What to look at when the phone is lost; `{address}` stands for its address."""

    def __init__(self, address: str, directory: str) -> None:
        self.address = address
        self.directory = directory

    @abstractmethod
    def push(self, local: Path, remote: str, executable: bool = False) -> None:
        """Copy a file to the phone; its directory exists there. `executable` gives it the mode 0755, else 0644.

        Raises OSError where `local` cannot be read, and QuantfleetError: PHONE_LOST, ENGINE_MISSING, STORAGE_FULL where
        the phone is full, or ENGINE_FAILED where it does not take the file.
        """

    @abstractmethod
    def pull(self, remote: str, local: Path) -> None:
        """Copy a file from the phone; `local` is then whole, or as it was.

        Raises QuantfleetError: PHONE_LOST, ENGINE_MISSING, or ENGINE_FAILED where the phone does not give the file.
        """

    def run(self, command: Sequence[str], timeout_s: float) -> Ran:
        """Run a program with arguments that no shell touches, without input, and wait until it has ended.

        A variable goes in by `env NAME=value program`. A command that fails is no error: see its code. One that is not
        done after `timeout_s` seconds is killed on the phone, with what it started, and that is PHONE_LOST.
        """
        heard = self._carry(Script.program(command), timeout_s)
        if heard.late:
            what = f"{self.name}: {command[0]} was not done after {timeout_s:g} s"
            raise QuantfleetError(ErrorCode.PHONE_LOST, what, "see whether the phone hangs; the task is tried again")
        return Ran(self._code(heard), heard.stdout.decode(errors="replace"), heard.stderr)

    @contextmanager
    def workdir(self) -> Iterator[str]:
        """A fresh directory on the phone, removed afterwards with what is in it.

        What a phone that went away has kept is removed a day later, by the next run.
        """
        made = f"{self.directory}/quantfleet-run-{uuid.uuid4().hex}"
        place = shlex.quote(self.directory)
        old = f"find {place} -mindepth 1 -maxdepth 1 -name 'quantfleet-run-*' -mtime +0 -exec rm -rf {{}} +"
        make = f"mkdir -p {place} && mkdir -m 700 {shlex.quote(made)}"
        self._do(f"{make} && {{ {old}; true; }}", f"make the directory {made}")
        try:
            yield made
        finally:
            # What was done in it counts, and so does what went wrong there: not that it cannot be removed.
            with contextlib.suppress(QuantfleetError):
                self.run(["rm", "-rf", made], _CHORE_S)

    @property
    def name(self) -> str:
        """What messages call the phone."""
        return f"phone {self.address} ({self.kind})"

    @abstractmethod
    def _argv(self, script: str) -> list[str]:
        """The client's command line that has the phone's shell run `script`."""

    def _env(self) -> Mapping[str, str] | None:
        """The client's environment; None for this process's."""
        return None

    def _carry(
        self, script: Script, timeout_s: float, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None
    ) -> Heard:
        try:
            return converse(self._argv(script.text), script, timeout_s, stdin=stdin, stdout=stdout, env=self._env())
        except (FileNotFoundError, PermissionError):
            raise self._missing() from None

    def _code(self, heard: Heard) -> int:
        """The exit code that the phone told. Raises QuantfleetError(PHONE_LOST) where it told none."""
        if heard.code is None:
            raise self._lost(heard.stderr)
        return heard.code

    def _do(self, lines: str, purpose: str, timeout_s: float = _CHORE_S, stdin: IO[bytes] | None = None) -> None:
        """Have the phone's shell run lines that must succeed."""
        heard = self._carry(Script.lines(f"LC_ALL=C; export LC_ALL; {lines}"), timeout_s, stdin)
        if self._code(heard) != 0:
            raise self._refused(purpose, heard.stderr)

    def _lost(self, said: str) -> QuantfleetError:
        last = _last_line(said)
        what = f"{self.name} is lost: {last}" if last else f"{self.name} went away in the middle of a command"
        return QuantfleetError(
            ErrorCode.PHONE_LOST, what, f"{self.advice.format(address=self.address)}; the task is tried again"
        )

    def _refused(self, purpose: str, said: str) -> QuantfleetError:
        what = f"{self.name} cannot {purpose}: {_last_line(said) or 'it does not say why'}"
        if "No space left on device" in said:
            return QuantfleetError(ErrorCode.STORAGE_FULL, what, "make room there")
        return QuantfleetError(ErrorCode.ENGINE_FAILED, what, f"see whether {self.directory} can be written there")

    def _missing(self) -> QuantfleetError:
        return QuantfleetError(ErrorCode.ENGINE_MISSING, f"{self.client} is not installed here", self.install)


def _last_line(said: str) -> str:
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
