"""An Android phone by the adb client and whatever server it finds. Not for making the phone trust this host."""

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.execution.strays import MARK
from quantfleet_worker.phones.transports.base import TRANSFER_S, Transport

DIRECTORY = "/data/local/tmp/quantfleet"
"""Where the shell of every Android may write, and run what it wrote."""


class AdbTransport(Transport):
    """`address` is the serial number that `adb devices` lists; a phone on the network was connected before.

    The server is the user's: it is started where none runs, on the port of ANDROID_ADB_SERVER_PORT, and never ended.
    """

    kind = "adb"
    client = "adb"
    install = "sudo apt install adb"
    advice = "see its cable or network, and what `adb devices` lists"

    def __init__(self, address: str, directory: str = DIRECTORY) -> None:
        super().__init__(address, directory)

    def push(self, local: Path, remote: str, executable: bool = False) -> None:
        """As `Transport.push`."""
        with local.open("rb"):
            size = local.stat().st_size
        self._copy(["push", str(local.absolute()), remote], f"take {remote}")
        place = shlex.quote(remote)
        whole = f'[ "$(wc -c < {place})" -eq {size} ]'
        self._do(f"{whole} && chmod {'755' if executable else '644'} {place}", f"keep {remote}")

    def pull(self, remote: str, local: Path) -> None:
        """As `Transport.pull`."""
        part = local.with_name(f"{local.name}.part")
        try:
            self._copy(["pull", remote, str(part.absolute())], f"give {remote}")
            self._do(f'[ "$(wc -c < {shlex.quote(remote)})" -eq {part.stat().st_size} ]', f"give all of {remote}")
            part.replace(local)
        finally:
            part.unlink(missing_ok=True)

    def _copy(self, command: list[str], purpose: str) -> None:
        try:
            ended = subprocess.run(
                [self.client, "-s", self.address, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TRANSFER_S,
                env=self._env(),
                check=False,
            )
        except (FileNotFoundError, PermissionError):
            raise self._missing() from None
        except subprocess.TimeoutExpired:
            raise self._lost(f"no file was copied in {TRANSFER_S:g} s") from None
        said = ended.stdout.decode(errors="replace")
        if ended.returncode != 0:
            # The client's words do not tell what the phone refused from what broke on the way: ask the phone itself.
            self._do("true", "answer")
            raise self._refused(purpose, next((line for line in said.splitlines() if "error" in line), said))

    def _argv(self, script: str) -> list[str]:
        return [self.client, "-s", self.address, "shell", "-T", script]

    def _env(self) -> Mapping[str, str]:
        # The server outlives the worker, as it does with every program that uses adb: it is no stray of this host.
        return {key: value for key, value in os.environ.items() if key != MARK}

    def _lost(self, said: str) -> QuantfleetError:
        if "unauthorized" in said or "authorizing" in said:
            what = f"{self.name} does not trust this host yet"
            todo = "unlock the phone and accept the dialog `Allow USB debugging?`; the task is tried again"
            return QuantfleetError(ErrorCode.PHONE_LOST, what, todo)
        return super()._lost(said)
