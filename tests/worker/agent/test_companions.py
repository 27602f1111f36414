"""Which processes count as nobody while a task measures: the worker's own, and none that runs another task."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from quantfleet_worker.agent.companions import companions
from quantfleet_worker.execution.strays import MARK

SLEEP = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(600)"]
STARTS_ANOTHER = [sys.executable, "-c", f"import subprocess; subprocess.run({SLEEP!r})"]


def test_what_runs_a_task_is_no_companion_and_neither_is_what_that_started() -> None:
    mark = {**os.environ, MARK: "/tmp/qf:arm:pixel/0"}
    idle = subprocess.Popen(SLEEP, stdout=subprocess.PIPE, start_new_session=True)
    task = subprocess.Popen(STARTS_ANOTHER, stdout=subprocess.PIPE, env=mark, start_new_session=True)
    try:
        assert all(process.stdout and process.stdout.readline() for process in (idle, task))
        (converter,) = map(int, Path(f"/proc/{task.pid}/task/{task.pid}/children").read_text().split())
        found = set(companions())
    finally:
        for process in (idle, task):
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert {os.getpid(), idle.pid} <= found
    assert not {task.pid, converter} & found
