"""The actor of one slot, inside Ray: it supervises one child process at a time. Not who places it: that is the host."""

import os
import threading

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.execution.outcome import Cancelled, Failed, Outcome
from quantfleet_worker.execution.spec import RunSpec
from quantfleet_worker.execution.supervisor import ChildRun


class EngineActor:
    """Runs requests that its host numbers, one at a time; `cancel` and `progress` get through while one runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._child: ChildRun | None = None
        self._progress = (0.0, "")
        self._cancelled: set[int] = set()

    def run(self, number: int, spec: RunSpec, request: bytes) -> Outcome:
        """Run a request to its end. A number that was cancelled before it came starts nothing."""
        child = ChildRun(spec, self._advance)
        with self._lock:
            if number in self._cancelled:
                self._cancelled.discard(number)
                return Cancelled()
            if self._child is not None:
                return Failed(QuantfleetError(ErrorCode.WORKER_FAILED, "the slot is busy", "one task a slot at a time"))
            self._number, self._child, self._progress = number, child, (0.0, "")
        try:
            return child.run(request)
        except QuantfleetError as error:
            return Failed(error)
        finally:
            with self._lock:
                self._child = None

    def cancel(self, number: int) -> None:
        """Kill the run of this number, or keep it from starting; nothing where it has ended."""
        with self._lock:
            if number > self._number:
                self._cancelled.add(number)
            elif number == self._number and self._child is not None:
                self._child.kill()

    def progress(self) -> tuple[float, str]:
        """The last progress of the current or last run: a fraction and a message."""
        return self._progress

    def pids(self) -> tuple[int, int | None]:
        """The process ids of this actor and of its child, None while none runs."""
        child = self._child
        return os.getpid(), child.pid if child else None

    def _advance(self, fraction: float, message: str) -> None:
        self._progress = (fraction, message)
