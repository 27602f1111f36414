"""Runs a function in a process of its own and says how much memory that process took. Not for timing.

The child is a fresh interpreter, so neither the imports nor the memory of one tool weigh on another.
"""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Isolated(Generic[T]):
    """What a child process returned, and its peak resident set in MiB."""

    def __init__(self, value: T, peak_rss_mb: float) -> None:
        self.value = value
        self.peak_rss_mb = peak_rss_mb


def isolated(function: Callable[..., T], *arguments: Any) -> Isolated[T]:
    """Call `function` in a new process. Raises RuntimeError where it raised or died; both sides must pickle."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_call, args=(there, function, arguments))
    child.start()
    there.close()
    try:
        problem, value, peak = here.recv()
    except EOFError:
        problem, value, peak = "it died without a word", None, 0.0
    child.join()
    if problem:
        raise RuntimeError(f"{function.__module__}.{function.__qualname__}: {problem} (exit code {child.exitcode})")
    return Isolated(value, peak)


def peak_rss_mb() -> float:
    """The peak resident set of this process in MiB.

    From /proc rather than getrusage, whose figure starts at that of the parent that forked us.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this kernel does not say VmHWM")


def _call(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    # Tools write progress bars; the table is what belongs on our output.
    if not os.environ.get("BENCH_VERBOSE"):
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
    try:
        value = function(*arguments)
    except Exception as error:  # the parent raises it again; a tool's own exception types need not exist there
        pipe.send((f"{type(error).__name__}: {error}", None, 0.0))
    else:
        pipe.send(("", value, peak_rss_mb()))
    pipe.close()
