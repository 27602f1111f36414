"""Runs a program beyond a link so that it ends with the link, and so that its end is known from the phone itself.

Clients do not tell a lost link from a program's own exit code: adb 29 exits with 0 and adb 36 with 255 when the phone
goes away in the middle, and ssh's 255 is a program's 255 too. So the phone's shell says the code on standard error,
behind a mark that no program can know. And it holds its end of standard input, where nothing is ever sent: when that
closes, because the time is up, the link broke or this process died, it kills the program and what that has started.
"""

import os
import shlex
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

_LAST_WORD_S = 5
"""How long the phone has to say that the program was killed; then its client is."""

# Descriptor 3 is the link's input, 4 the program's errors: what the shell says of its own accord goes nowhere. mksh,
# Android's shell, loses a milder signal than KILL to a watch that has only just begun, and the link would stay open.
_SCRIPT = """exec 3<&0 4>&2 2>/dev/null
setsid {program} </dev/null 2>&4 3<&- 4>&- & program=$!
(read nothing <&3; kill -s KILL -- -$program; kill -s KILL $program) >/dev/null 4>&- & watch=$!
exec 3<&-
wait $program; code=$?
kill -s KILL $watch
echo {mark}$code >&4"""


@dataclass(frozen=True)
class Heard:
    """What came over the link. `code` is the program's exit code by the phone's account: None where it gave none."""

    code: int | None
    stdout: bytes
    stderr: str
    late: bool


class Script:
    """A text for the phone's shell that says at its end how it ended."""

    def __init__(self, text: str, mark: str) -> None:
        self.text = text
        self._mark = mark

    @classmethod
    def program(cls, command: Sequence[str]) -> "Script":
        """Runs a program with these arguments, without input; ends it when the link's standard input closes."""
        mark = _new_mark()
        return cls(_SCRIPT.format(program=shlex.join(command), mark=mark), mark)

    @classmethod
    def lines(cls, text: str) -> "Script":
        """Runs these lines of shell, which may read the link's standard input."""
        mark = _new_mark()
        return cls(f"({text}); echo {mark}$? >&2", mark)

    def heard(self, stdout: bytes, stderr: bytes, *, late: bool) -> Heard:
        """What its two streams mean."""
        said, mark, code = stderr.decode(errors="replace").rpartition(self._mark)
        ended = bool(mark) and code.strip().isdigit()
        return Heard(int(code) if ended else None, stdout, said if ended else code, late)


def converse(
    client: Sequence[str],
    script: Script,
    timeout_s: float,
    *,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
) -> Heard:
    """Start a client that carries `script`, and wait until it has ended, or for `timeout_s` seconds and a few more.

    Without `stdin` the link's input stays open and empty; with `stdout` what comes is written there. Raises
    FileNotFoundError or PermissionError where there is no such client.
    """
    ours, theirs = os.pipe()
    held: int | None = theirs
    try:
        process = subprocess.Popen(
            client, stdin=stdin or ours, stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE, env=env
        )
        with process:
            try:
                said, problems = process.communicate(timeout=timeout_s)
                return script.heard(said or b"", problems, late=False)
            except subprocess.TimeoutExpired:
                os.close(theirs)
                held = None
                try:
                    said, problems = process.communicate(timeout=_LAST_WORD_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    said, problems = process.communicate()
                return script.heard(said or b"", problems, late=True)
            except BaseException:
                process.kill()
                raise
    finally:
        os.close(ours)
        if held is not None:
            os.close(held)


def _new_mark() -> str:
    return f"{uuid.uuid4().hex}:"
