"""The child process of one engine run: reads one request, calls its handler, answers. Not who supervises it.

`python -m quantfleet_worker.execution.child --parent PID --request FD --answer FD --handler MODULE:FUNCTION`

The handler is `(request: bytes, report: Callable[[float, str], None]) -> bytes`. It is named by the supervisor, never
by the request. Standard output and error belong to the libraries, which print there what they like.
"""

import argparse
import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.execution.frames import Frame, Kind, receive, send

Report = Callable[[float, str], None]
Handler = Callable[[bytes, Report], bytes]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_TRACEBACK_CHARACTERS = 8192
_ABANDONED = 3


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends; end at once where that has happened.

    `parent` is the process id that this process was started by.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent:  # it died before the request to the kernel
        os._exit(_ABANDONED)


def resolve(name: str) -> Handler:
    """Import the handler called `module:function`."""
    module, _, function = name.partition(":")
    found: Handler = getattr(importlib.import_module(module), function)
    return found


def failure(error: Exception) -> tuple[Frame, str]:
    """The ERROR frame for an exception, and the text to log beside it (empty for an error meant for users)."""
    log = ""
    if not isinstance(error, QuantfleetError):
        log = "".join(traceback.format_exception(error))[-_TRACEBACK_CHARACTERS:]
        summary = str(error).strip().partition("\n")[0]
        name = type(error).__name__
        error = QuantfleetError(
            ErrorCode.ENGINE_FAILED,
            f"{name}: {summary}" if summary else name,
            "read the attempt's log for the traceback",
        )
    body = {"code": error.code.value, "what": error.what, "todo": error.todo}
    return Frame(Kind.ERROR, json.dumps(body).encode()), log


def usage() -> Frame:
    """The USAGE frame: the largest resident set of this process since `exec`, from /proc/self/status."""
    status = Path("/proc/self/status").read_text()
    kibibytes = int(status.partition("VmHWM:")[2].split()[0])
    return Frame(Kind.USAGE, json.dumps({"peak_rss_bytes": kibibytes * 1024}).encode())


def main() -> None:
    """Run one request and exit: 0 when an answer was given, be it a result or an error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--request", type=int, required=True)
    parser.add_argument("--answer", type=int, required=True)
    parser.add_argument("--handler", required=True)
    arguments = parser.parse_args()
    die_with(arguments.parent)
    answer: int = arguments.answer

    def report(fraction: float, message: str) -> None:
        send(answer, Frame(Kind.PROGRESS, json.dumps([fraction, message]).encode()))

    request = receive(arguments.request)
    if request is None:
        os._exit(_ABANDONED)
    os.close(arguments.request)
    try:
        payload = resolve(arguments.handler)(request.payload, report)
        send(answer, usage())
        send(answer, Frame(Kind.RESULT, payload))
    except Exception as error:  # the boundary of the process: whatever went wrong becomes an answer
        frame, log = failure(error)
        if log:
            send(answer, Frame(Kind.LOG, log.encode(errors="replace")))
        send(answer, usage())
        send(answer, frame)
    sys.stdout.flush()
    sys.stderr.flush()
    # Engines keep threads and handles whose destruction at interpreter exit crashes now and then; the answer is given.
    os._exit(0)


if __name__ == "__main__":
    main()
