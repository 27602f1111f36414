"""A real coordinator, served by the command itself, and a way to run other commands against it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from quantfleet.cli.main import main


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def run(*words: object) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        found = capsys.readouterr()
        return Ran(code, found.out, found.err)

    return run


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A coordinator that serves: its addresses and the directory of the admin's credentials."""
    state = tmp_path_factory.mktemp("coordinator")
    words = ["coordinator", "serve", "--json", "--state", str(state), "--die-with-parent", str(os.getpid())]
    process = subprocess.Popen(
        [sys.executable, "-m", "quantfleet", *words, "--listen", "127.0.0.1:0", "--enrol-listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    yield json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.fixture
def admin(served: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The coordinator, with the admin's credentials as the default ones."""
    monkeypatch.setenv("QUANTFLEET_CREDENTIALS", served["credentials"])
    return served


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    """A job that no node is there to run."""
    (tmp_path / "m.onnx").write_bytes(b"no model")
    path = tmp_path / "job.yaml"
    path.write_text("apiVersion: quantfleet/v1\nkind: Job\nname: waits\nmodel: {path: m.onnx}\n")
    return path
