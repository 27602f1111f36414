"""A real sshd on loopback with keys and a port of its own, for the real ssh client. Not for logins from elsewhere."""

import contextlib
import getpass
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

_CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
"""
_CLIENT_CONFIG = """\
Host {name}
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {directory}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {directory}/known_hosts
"""
_START_S = 20.0


class SshServer:
    """The server, between `with` and its end. It lets in only the user who runs it, by a key made for it.

    `address` and `options` are what an `SshTransport` needs to reach it; `directory` gets keys and configuration.
    As root it needs sshd's own user, which its package makes.
    """

    address = "board"

    def __init__(self, program: Path, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self._program = program
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.options = ("-F", str(directory / "client_config"))

    def __enter__(self) -> Self:
        places = {"directory": self._directory, "port": self._port, "user": getpass.getuser(), "name": self.address}
        (self._directory / "config").write_text(_CONFIG.format(**places))
        (self._directory / "client_config").write_text(_CLIENT_CONFIG.format(**places))
        for key in ("host_key", "user_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._directory / key],  # noqa: S607 - of the PATH
                check=True,
            )
        host_key = (self._directory / "host_key.pub").read_text()
        (self._directory / "known_hosts").write_text(f"[127.0.0.1]:{self._port} {host_key}")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where a root's sshd shuts its strangers in
        self.come_back()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.vanish()

    def come_back(self) -> None:
        """Listen again, on the same port."""
        self._process = subprocess.Popen(
            [self._program, "-D", "-e", "-f", self._directory / "config"],
            stdin=subprocess.DEVNULL,
            stderr=(self._directory / "log").open("ab"),
        )
        deadline = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self._port)):
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd did not start: {(self._directory / 'log').read_text()}")
            time.sleep(0.02)

    def vanish(self) -> None:
        """Break every session and take no new one. What a session started goes on, unless it ends with its link."""
        if self._process is None:
            return
        started = psutil.Process(self._process.pid).children(recursive=True)
        for pid in [self._process.pid, *(process.pid for process in started if process.name().startswith("sshd"))]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
