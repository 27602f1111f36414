"""The contract of a way to a phone. Every transport passes one contract suite; nothing here knows one."""

import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from quantfleet_domain.errors import ErrorCode, QuantfleetError


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

    `kind` is `adb`, `ssh` or `local`; `address` is what the client calls the phone (a serial number, an ssh
    destination), for messages and reports. `directory` is where the directories of runs are made.
    """

    kind: str
    address: str
    directory: str

    @abstractmethod
    def push(self, local: Path, remote: str, executable: bool = False) -> None:
        """Copy a file to the phone; its directory exists there. `executable` gives it the mode 0755, else 0644.

        Raises QuantfleetError(PHONE_LOST, ENGINE_MISSING, or STORAGE_FULL where the phone cannot write it).
        """

    @abstractmethod
    def pull(self, remote: str, local: Path) -> None:
        """Copy a file from the phone; `local` is whole or not there.

        Raises QuantfleetError(PHONE_LOST, ENGINE_MISSING, or ENGINE_FAILED where the phone cannot give it).
        """

    @abstractmethod
    def run(self, command: Sequence[str], timeout_s: float) -> Ran:
        """Run a program with arguments that no shell touches, without input, and wait until it has ended.

        A variable goes in by `env NAME=value program`. A command that fails is no error: see its code. One that is
        not done after `timeout_s` seconds is ended on the phone, and that is PHONE_LOST.
        """

    @contextmanager
    def workdir(self) -> Iterator[str]:
        """A fresh directory on the phone, removed afterwards with what is in it (but not when the phone is gone)."""
        made = f"{self.directory}/run-{uuid.uuid4().hex}"
        self._must(["mkdir", "-p", self.directory])
        self._must(["mkdir", made])
        try:
            yield made
        except QuantfleetError as error:
            if error.code is not ErrorCode.PHONE_LOST:
                self._must(["rm", "-rf", made])
            raise
        except BaseException:
            self._must(["rm", "-rf", made])
            raise
        self._must(["rm", "-rf", made])

    def _must(self, command: Sequence[str]) -> None:
        raise NotImplementedError
