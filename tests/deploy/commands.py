"""Whether a command in a deployment file is one that the command line has. Not for finding the commands."""

import functools
import os
import subprocess
import sys


def assert_known(source: str, words: list[str]) -> None:
    """Fail where the words after `quantfleet` name no command, or an option that the command does not have."""
    path = []
    for word in words:
        if word.startswith("-"):
            break
        path.append(word)
    assert path, f"{source}: no subcommand"
    status, text = _help(tuple(path[:2]))
    assert status == 0, f"{source}: {text}"
    known = set(text.replace(",", " ").split())
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0] in known, f"{source}: no option {word} in\n{text}"


@functools.cache
def _help(path: tuple[str, ...]) -> tuple[int, str]:
    environment = {**os.environ, "COLUMNS": "300", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-m", "quantfleet", *path, "--help"], capture_output=True, text=True, env=environment
    )
    return done.returncode, done.stdout + done.stderr
