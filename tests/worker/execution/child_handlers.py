"""Handlers that the tests run in real child processes: well-behaved, failing, crashing and hanging ones."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from quantfleet_domain.errors import ErrorCode, QuantfleetError

Report = Callable[[float, str], None]


def echo(request: bytes, report: Report) -> bytes:
    report(0.5, "half")
    report(1.0, "done")
    return request[::-1]


def surroundings(request: bytes, report: Report) -> bytes:
    """What a child sees: its cores, those of all its threads (some started late), its environment and its group."""
    import numpy as np

    np.ones((64, 64)) @ np.ones((64, 64))  # wakes the threads of BLAS
    release = threading.Event()
    threads = [threading.Thread(target=release.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    ids = [int(entry.name) for entry in Path("/proc/self/task").iterdir()]
    seen = {
        "own": sorted(os.sched_getaffinity(0)),
        "threads": sorted({tuple(sorted(os.sched_getaffinity(number))) for number in ids}),
        "thread_count": len(ids),
        "environment": dict(os.environ),
        "leads_group": os.getpgrp() == os.getpid(),
        "niceness": os.nice(0),
    }
    release.set()
    return json.dumps(seen).encode()


def print_much(request: bytes, report: Report) -> bytes:
    os.write(1, b"x" * 1_000_000)
    sys.stderr.write("the last line\n")
    return b"ok"


def allocate(request: bytes, report: Report) -> bytes:
    block = bytearray(int(request))
    block[::4096] = b"\1" * len(block[::4096])
    return str(len(block)).encode()


def refuse(request: bytes, report: Report) -> bytes:
    raise QuantfleetError(ErrorCode.MODEL_UNREADABLE, "model.onnx has no graph", "export it again")


def divide(request: bytes, report: Report) -> bytes:
    return b"%d" % (1 // len(request[:0]))


def segfault(request: bytes, report: Report) -> bytes:
    ctypes.string_at(0)
    return b"unreachable"


def abort(request: bytes, report: Report) -> bytes:
    sys.stderr.write("[F analysis.cc:12] no such kernel\n")
    sys.stderr.flush()
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    os.abort()


def leave(request: bytes, report: Report) -> bytes:
    os._exit(7)


def babble(request: bytes, report: Report) -> bytes:
    """Writes something that is no frame where the answer belongs, as a library might to any open descriptor."""
    descriptor = int(sys.argv[sys.argv.index("--answer") + 1])
    os.write(descriptor, b"\xff" * 64)
    time.sleep(600)
    return b""


def hang(request: bytes, report: Report) -> bytes:
    """Ignores every polite signal, says its process id, and never ends."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report(0.0, str(os.getpid()))
    time.sleep(600)
    return b""


def hang_with_grandchild(request: bytes, report: Report) -> bytes:
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    report(0.0, f"{os.getpid()} {grandchild.pid}")
    time.sleep(600)
    return b""


def leave_grandchild(request: bytes, report: Report) -> bytes:
    """Forks without exec, so that the grandchild keeps every pipe of the child open, and returns."""
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    return str(pid).encode()
