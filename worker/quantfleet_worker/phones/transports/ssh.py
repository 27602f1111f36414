"""A board or a phone with an SSH server, by the ssh client and its user's own configuration. Not for passwords."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from quantfleet_worker.phones.transports.base import TRANSFER_S, Transport
from quantfleet_worker.phones.transports.supervised import Script

# No question may wait for an answer, and a dead link is noticed in 15 s. A shared connection would outlive its call and
# hold what the caller reads.
_OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": "15",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    "ControlMaster": "no",
    "ControlPath": "none",
    "LogLevel": "ERROR",
}


class SshTransport(Transport):
    """`address` is any ssh destination: a host, `user@host`, or a name of the user's ssh configuration, which also says
    the port, the key and the known hosts. `options` go to the client before it.
    """

    kind = "ssh"
    client = "ssh"
    install = "sudo apt install openssh-client"
    advice = "see whether `ssh {address} true` works from here without a question"

    def __init__(self, address: str, directory: str, options: Sequence[str] = ()) -> None:
        super().__init__(address, directory)
        self._options = tuple(options)

    def push(self, local: Path, remote: str, executable: bool = False) -> None:
        """As `Transport.push`. By `cat`: boards often have no SFTP server, and scp's names pass through a shell."""
        place = shlex.quote(remote)
        with local.open("rb") as content:
            lines = f"cat > {place} && chmod {'755' if executable else '644'} {place}"
            self._do(lines, f"take {remote}", TRANSFER_S, content)

    def pull(self, remote: str, local: Path) -> None:
        """As `Transport.pull`."""
        part = local.with_name(f"{local.name}.part")
        try:
            with part.open("wb") as content:
                heard = self._carry(Script.lines(f"cat {shlex.quote(remote)}"), TRANSFER_S, stdout=content)
            if self._code(heard) != 0:
                raise self._refused(f"give {remote}", heard.stderr)
            part.replace(local)
        finally:
            part.unlink(missing_ok=True)

    def _argv(self, script: str) -> list[str]:
        settings = [word for key, value in _OPTIONS.items() for word in ("-o", f"{key}={value}")]
        # The user's login shell may be any; the script is for a POSIX shell.
        return [self.client, "-T", *settings, *self._options, "--", self.address, f"exec sh -c {shlex.quote(script)}"]
