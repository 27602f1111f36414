"""Asking other Pythons for their engines: a real one, and every way in which one may be no use."""

import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from quantfleet_worker.engines.elsewhere import ask

OURS = {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def script(folder: Path, lines: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return str(path)


def missing(interpreter: str, timeout_seconds: float = 60) -> str:
    answers = ask(interpreter, ["paddle-cpu", "onnxruntime-cpu"], OURS, timeout_seconds)
    assert {answer.version for answer in answers.values()} == {None}
    (reason,) = {answer.missing for answer in answers.values()}
    assert reason
    return reason


def test_a_python_tells_the_versions_of_its_engines() -> None:
    answer = ask(sys.executable, ["paddle-cpu"], OURS)["paddle-cpu"]
    assert (answer.version, answer.missing) == (metadata.version("paddlepaddle"), None)


def test_what_an_engine_lacks_there_is_told_with_the_interpreter() -> None:
    answers = ask(sys.executable, ["paddle-cpu", "no-such-engine"], OURS)
    assert answers["paddle-cpu"].version
    reason = answers["no-such-engine"].missing
    assert reason is not None
    assert sys.executable in reason
    assert "no-such-engine" in reason


def test_an_interpreter_that_is_not_there_is_named() -> None:
    assert missing("/nowhere/python").startswith("/nowhere/python cannot be started: No such file")


def test_a_python_without_quantfleet_gets_the_command_that_installs_it(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True)
    bare = str(tmp_path / "bin" / "python")
    answers = ask(bare, ["paddle-cpu"])
    reason = answers["paddle-cpu"].missing
    assert reason is not None
    assert "cannot be imported" in reason
    assert f"{bare} -m pip install --no-deps" in reason


def test_another_version_of_quantfleet_is_refused(tmp_path: Path) -> None:
    answer = '{"quantfleet": "0.0.1", "engines": {"paddle-cpu": {"version": "2", "missing": null}, '
    answer += '"onnxruntime-cpu": {"version": "1", "missing": null}}}'
    assert "has quantfleet 0.0.1" in missing(script(tmp_path, f"echo '{answer}'"))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("echo '{}'", "does not run quantfleet"),
        ("echo trouble >&2; exit 3", "trouble"),
        ("exit 3", "status 3"),
        ("kill -SEGV $$", "status -11"),
    ],
)
def test_a_program_that_answers_nothing_useful_is_reported_with_its_last_words(
    tmp_path: Path, lines: str, told: str
) -> None:
    assert told in missing(script(tmp_path, lines))


def test_one_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    # The shell's own child would hold the pipes open for an hour.
    interpreter = script(tmp_path, f"sleep 3600 & echo $! > {tmp_path}/pid; wait")
    assert "did not answer in 2 s" in missing(interpreter, timeout_seconds=2)
    assert ended(int((tmp_path / "pid").read_text()))


def ended(pid: int) -> bool:
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.05)
    return False
