"""Pinning what runs already: every thread of this process. The supervisor pins the process before it starts."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def pin_all_threads(cores: Iterable[int]) -> None:
    """Pin every thread of this process to `cores`; threads made later inherit it from the one that makes them.

    A sweep over thread counts narrows and widens the set between its cells, so that one thread cannot wander.
    """
    wanted = set(cores)
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # it ended meanwhile
            os.sched_setaffinity(int(thread.name), wanted)


def pinned_cores() -> tuple[int, ...]:
    """The cores that the kernel lets any thread of this process run on, ascending."""
    cores: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # it ended meanwhile
            cores |= os.sched_getaffinity(int(thread.name))
    return tuple(sorted(cores))
