"""This host itself in a phone's place: a board that runs its own worker."""

import os
import shutil
from pathlib import Path

from quantfleet_worker.phones.transports.base import Transport


class LocalTransport(Transport):
    """This host; runs are made in `directory`."""

    kind = "local"
    client = "sh"
    install = "a POSIX shell is needed"
    advice = "see what killed the command's shell"

    def __init__(self, directory: str) -> None:
        super().__init__("this host", directory)

    def push(self, local: Path, remote: str, executable: bool = False) -> None:
        """As `Transport.push`."""
        with local.open("rb"):
            pass
        self._copy(local, Path(remote), f"take {remote}")
        Path(remote).chmod(0o755 if executable else 0o644)

    def pull(self, remote: str, local: Path) -> None:
        """As `Transport.pull`."""
        self._copy(Path(remote), local, f"give {remote}")

    def _copy(self, source: Path, target: Path, purpose: str) -> None:
        part = target.with_name(f"{target.name}.part")
        try:
            shutil.copyfile(source, part)
            part.replace(target)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise self._refused(purpose, os.strerror(error.errno or 0)) from error

    def _argv(self, script: str) -> list[str]:
        return [self.client, "-c", script]
