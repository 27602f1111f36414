"""Finds what a killed host or actor left behind: its processes, and its directory.

Not for the ordinary end of a run: there the supervisor kills the process group. What the kernel kills by itself when a
host is killed are Ray's two servers. Ray's agents would linger for a minute, and what an engine's process had started
in turn would stay: so a host has a warden, a small process that only waits for the host's end
(`python -m quantfleet_worker.execution.strays DIRECTORY`). Should that be killed too, the next host cleans up.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

MARK = "QUANTFLEET_HOST"
"""The environment variable that every child of a host carries: the host's directory, `:` and the slot."""

_PREFIX = "qf-"
_LOCK = "lock"
_ROUNDS = 20


class HostDirectory:
    """A short directory of a host's own, locked for as long as the host lives, with a warden beside it."""

    def __init__(self, parent: Path) -> None:
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if (self.path / _LOCK).exists():  # else another host took it for a dead one's just before the lock
                break
            os.close(self._lock)
        self._warden = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self.path)],
            stdin=subprocess.PIPE,  # nobody writes: the kernel closes it when this process ends
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def remove(self) -> None:
        """Kill what still carries its mark, delete it, and give up the lock and the warden."""
        kill_marked(str(self.path))
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        self._warden.communicate()


def sweep_dead_hosts(parent: Path) -> None:
    """Kill the processes and remove the directories of hosts that ended without removing them."""
    for lock in parent.glob(f"{_PREFIX}*/{_LOCK}"):
        _sweep(lock.parent, fcntl.LOCK_NB)


def _sweep(directory: Path, unless_held: int) -> None:
    try:
        descriptor = os.open(directory / _LOCK, os.O_RDWR)
    except OSError:  # another user's, or removed already
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | unless_held)
        kill_marked(str(directory))
        shutil.rmtree(directory, ignore_errors=True)
    except BlockingIOError:  # alive
        pass
    finally:
        os.close(descriptor)


def kill_marked(mark: str) -> None:
    """Kill every other process of the mark: a host's directory, or one slot of it.

    Those are the processes that carry it in their environment, and for a directory those with a Ray log open in it.
    """
    for _ in range(_ROUNDS):  # while one is killed another may fork
        found = [pid for pid in _marked(mark) if _kill(pid)]
        if not found:
            return


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _marked(mark: str) -> list[int]:
    variable = f"{MARK}={mark}"
    return [
        int(process.name)
        for process in Path("/proc").iterdir()
        if process.name.isdigit()
        and int(process.name) != os.getpid()
        # Ray's processes overwrite their environment with a title, but keep their logs open.
        and (_carries(process, variable.encode()) or _holds(process, f"{mark}/session_"))
    ]


def _carries(process: Path, variable: bytes) -> bool:
    try:
        values = (process / "environ").read_bytes().split(b"\0")
    except OSError:  # it has ended, or belongs to another user
        return False
    return any(value == variable or value.startswith(variable + b":") for value in values)


def _holds(process: Path, prefix: str) -> bool:
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:  # likewise
        return False
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # just closed
            if str(descriptor.readlink()).startswith(prefix):
                return True
    return False


if __name__ == "__main__":
    sys.stdin.buffer.read()
    # The kernel closes the files of an ending process one by one, so the lock may still be held for a moment.
    _sweep(Path(sys.argv[1]), 0)
