"""How a run in a child process ended: plain values that pass between processes. Not how it is supervised."""

from dataclasses import dataclass

from quantfleet_domain.errors import ErrorCode, QuantfleetError


@dataclass(frozen=True)
class Usage:
    """What the child process took.

    `peak_rss_bytes` is the largest resident set since its `exec` (VmHWM, read by itself before it answers; None where
    it could not, as after a crash: `ru_maxrss` starts from the parent's size and would be a lie). `cpu_seconds` is user
    and system time by `wait4`, reaped descendants included; `wall_seconds` counts from start to end.
    """

    peak_rss_bytes: int | None = None
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0


@dataclass(frozen=True)
class Result:
    """The handler returned. `log` is the end of what the child printed."""

    payload: bytes
    log: str = ""
    usage: Usage = Usage()


@dataclass(frozen=True)
class Failed:
    """The handler raised. `log` is the end of what the child printed, and the traceback of an unexpected error."""

    error: QuantfleetError
    log: str = ""
    usage: Usage = Usage()


@dataclass(frozen=True)
class Crashed:
    """The child ended without an answer.

    `signal` is the name of the signal that ended it (`SIGSEGV`) or empty; `exit_code` is its exit status or None;
    `tail` is the end of what it printed; `reason` says what happened in words. `infrastructure` is True where the run
    was lost by no fault of the engine.
    """

    reason: str
    signal: str = ""
    exit_code: int | None = None
    tail: str = ""
    infrastructure: bool = False
    usage: Usage = Usage()

    @property
    def error(self) -> QuantfleetError:
        """The same as an error that a user can read."""
        printed = self.tail.partition("Fatal Python error:")[0]  # what follows is Python's own dump of the stacks
        last = next((line.strip() for line in reversed(printed.splitlines()) if line.strip()), "")
        return QuantfleetError(
            ErrorCode.TASK_LOST if self.infrastructure else ErrorCode.ENGINE_CRASHED,
            f"{self.reason}; its last words: {last}" if last else self.reason,
            "read the attempt's log for what the engine printed before",
        )


@dataclass(frozen=True)
class Cancelled:
    """The run was killed because somebody asked for it."""

    usage: Usage = Usage()


Outcome = Result | Failed | Crashed | Cancelled
