"""Child processes of embedded mode: started with this program, started again when they die, ended with it.

Not for what they do. Each is in a process group of its own, so that Ctrl-C on a terminal reaches this process alone
and the children are ended in order; the kernel kills them should this process be killed.
"""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from quantfleet_domain.errors import ErrorCode, QuantfleetError

STOP_S = 15.0
_RESTARTS = 5
_PAUSE_S = 0.5
_TAIL_BYTES = 4000
_NOT_MENDED = (2, 5)
"""Exit codes that another start does not mend: bad input, refused."""


class Child:
    """`python -m quantfleet ARGUMENTS`, what it prints in the file `log`. Belongs to one event loop.

    Beside the log it gets a directory for temporary files, for engines leave some. `announces`: its standard output is
    not logged, but read by `first_line`.
    """

    def __init__(self, name: str, arguments: list[str], log: Path, announces: bool = False) -> None:
        self.name = name
        self.arguments = arguments
        self._announces = announces
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it."""
        temporary = self._log.with_suffix(".tmp")
        temporary.mkdir(exist_ok=True)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "quantfleet",
                *self.arguments,
                "--die-with-parent",
                str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if self._announces else log,
                stderr=log,
                env={**os.environ, "TMPDIR": str(temporary)},
                process_group=0,
            )

    async def first_line(self, timeout_s: float) -> bytes:
        """The first line that it prints. Raises WORKER_FAILED with its log where none comes."""
        assert self._process is not None
        assert self._process.stdout is not None
        with suppress(TimeoutError):
            line = await asyncio.wait_for(self._process.stdout.readline(), timeout_s)
            if line:
                return line
        raise self.failed("did not start")

    async def keep_alive(self) -> None:
        """Start it again whenever it dies. Raises WORKER_FAILED after five times, or where it cannot be mended."""
        for _ in range(_RESTARTS):
            assert self._process is not None
            code = await self._process.wait()
            if code in _NOT_MENDED:
                break
            await asyncio.sleep(_PAUSE_S)
            await self.start()
        raise self.failed("died")

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL where it has not ended in time."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()

    def failed(self, how: str) -> QuantfleetError:
        """The error that says how it failed, with the end of its log."""
        tail = self._log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
        what = f"the {self.name} {how}; its log ends:\n{tail}" if tail else f"the {self.name} {how} and logged nothing"
        return QuantfleetError(ErrorCode.WORKER_FAILED, what, "mend what the log says and run it again")
