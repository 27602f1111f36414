"""What the tests of execution share: a run specification for the handlers beside them."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from quantfleet_worker.execution.spec import RunSpec

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def spec_of() -> Callable[..., RunSpec]:
    """A specification for a handler of `child_handlers`, on this process's first core unless told otherwise."""

    def build(handler: str, cores: tuple[int, ...] | None = None, **rest: object) -> RunSpec:
        first = min(os.sched_getaffinity(0))
        environment = {"PYTHONPATH": str(HERE)}
        return RunSpec(cores or (first,), handler=f"child_handlers:{handler}", environment=environment, **rest)  # type: ignore[arg-type]  # the tests' shorthand

    return build


@pytest.fixture(scope="session")
def gone() -> Callable[[int], bool]:
    """Waits until a process has ended (a zombie has), and says whether it did."""

    def wait(pid: int) -> bool:
        for _ in range(600):
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            except (FileNotFoundError, ProcessLookupError):
                return True
            if state in "ZX":
                return True
            time.sleep(0.05)
        return False

    return wait
