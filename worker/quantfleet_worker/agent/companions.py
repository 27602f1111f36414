"""Which processes are this worker itself, idle while a task of its measures. Not for those that run tasks."""

import os
from collections.abc import Mapping

import psutil

from quantfleet_worker.execution.strays import MARK


def companions() -> tuple[int, ...]:
    """This process and all below it, but for what runs a task: a phone's models may be converted beside a measurement
    on its host, and that is a disturbance like any other."""
    me = psutil.Process(os.getpid())
    return (me.pid, *(process.pid for process in me.children(recursive=True) if MARK not in _environment(process)))


def _environment(process: psutil.Process) -> Mapping[str, str]:
    try:
        return process.environ()
    except psutil.Error:  # it has ended
        return {}
