"""An adb server of a test's own, beside the user's: its port, its keys and its log are in nobody's way."""

import os
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

_START_S = 60


class AdbServer:
    """The server, run by the real client program `client`, between `with` and its end.

    `environment` makes every client that is started with it use this server and that program; `directory` gets the
    server's keys and log.
    """

    def __init__(self, client: Path, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.client = client
        self.environment = {
            "PATH": f"{client.parent}{os.pathsep}{os.environ['PATH']}",
            "ANDROID_ADB_SERVER_PORT": str(self.port),
            "HOME": str(directory),
            "ANDROID_USER_HOME": str(directory),
            "TMPDIR": str(directory),
            "ADB_MDNS": "0",
            "ADB_LOCAL_TRANSPORT_MAX_PORT": "5553",  # below the first that it would look for an emulator at
        }

    def __enter__(self) -> Self:
        self._call("start-server")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server, whoever started it."""
        self._call("kill-server")

    def connect(self, address: str) -> str:
        """Have the server look for a device at `address`; what the client said about it."""
        return self._call("connect", address)

    def _call(self, *command: str) -> str:
        ended = subprocess.run(
            [self.client, *command],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_START_S,
            check=True,
        )
        return ended.stdout.decode()
