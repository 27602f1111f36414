"""What the tests on emulated ARM processors share: the root, and one program run on both sides."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.opt_in.arm.arm_root import CORTEX_A72, REPOSITORY, ArmRoot, Processor

PROGRAMS = Path(__file__).parent / "both_sides"

Program = Callable[..., Any]
Figure = Callable[[str], None]
_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def figure(pytestconfig: pytest.Config) -> Figure:
    """Takes a line for the end of the session: what was compared, and by how much it differed."""
    return pytestconfig.stash.setdefault(_FIGURES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_FIGURES, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this host that is /exchange in the root."""
    return tmp_path_factory.mktemp("exchange")


@pytest.fixture(scope="session")
def arm(exchange: Path) -> ArmRoot:
    return ArmRoot(Path(os.environ.get("ARM_ROOT") or REPOSITORY / ".arm-root").absolute(), exchange)


@pytest.fixture(scope="session")
def there(arm: ArmRoot) -> Program:
    """Runs a program of `both_sides` with arguments on an emulated processor; what it printed, as JSON."""

    def run(name: str, *arguments: str, on: Processor = CORTEX_A72) -> Any:
        program = Path("/quantfleet") / PROGRAMS.relative_to(REPOSITORY) / name
        return json.loads(arm.run("python3", str(program), *arguments, on=on))

    return run


@pytest.fixture(scope="session")
def here(exchange: Path) -> Program:
    """The same on this host."""

    def run(name: str, *arguments: str) -> Any:
        command = [sys.executable, str(PROGRAMS / name), *arguments]
        done = subprocess.run(command, cwd=exchange, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
