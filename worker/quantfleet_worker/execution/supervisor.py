"""Runs one request in one child process and says how it ended. Not where the child is placed: that is the host's.

The child is pinned before `exec`, so every thread of every library inherits the cores; it has its own process group and
an environment of named variables only. Blocking and free of threads: one loop waits on the pipes and on the child's
process descriptor, so that a descendant which keeps a pipe open cannot hold the run up.
"""

import json
import os
import resource
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.execution.frames import Decoder, Frame, FrameError, Kind, encode
from quantfleet_worker.execution.outcome import Cancelled, Crashed, Failed, Outcome, Result, Usage
from quantfleet_worker.execution.spec import RunSpec, environment_of

TAIL_BYTES = 4096
"""How much of what a child printed is kept."""

_CHUNK_BYTES = 1 << 16


class ChildRun:
    """One run, once. `kill` may be called from any thread, at any time."""

    def __init__(self, spec: RunSpec, on_progress: Callable[[float, str], None] | None = None) -> None:
        self._spec = spec
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False
        self._tail = bytearray()
        self._traceback = ""
        self._peak_rss_bytes: int | None = None
        self._answer: Frame | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        process = self._process
        return process.pid if process else None

    def kill(self) -> None:
        """Kill the child and its process group; the run ends as `Cancelled`, also where it has not begun."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                os.killpg(self._process.pid, signal.SIGKILL)

    def run(self, request: bytes) -> Outcome:
        """Start the child, give it the request, and wait for its end.

        Raises QuantfleetError(ENGINE_MISSING) where the interpreter cannot be started, and
        QuantfleetError(WORKER_FAILED) where the cores cannot be had.
        """
        started = time.monotonic()
        message = encode(Frame(Kind.REQUEST, request))
        request_read, request_write = os.pipe()
        answer_read, answer_write = os.pipe()
        ours = [request_write, answer_read]
        try:
            try:
                with self._lock:
                    if self._killed:
                        return Cancelled()
                    process = self._process = self._start(request_read, answer_write)
            finally:
                os.close(request_read)
                os.close(answer_write)
            try:
                if self._spec.memory_bytes:  # it has not read its request yet
                    limit = (self._spec.memory_bytes, self._spec.memory_bytes)
                    resource.prlimit(process.pid, resource.RLIMIT_DATA, limit)
                broken = self._converse(process, message, ours)
            finally:
                usage = self._reap(process, started)
        finally:
            for fd in ours:
                os.close(fd)
        return self._outcome(process.returncode, usage, broken)

    def _start(self, request_fd: int, answer_fd: int) -> subprocess.Popen[bytes]:
        spec = self._spec
        arguments = ["--parent", str(os.getpid()), "--request", str(request_fd), "--answer", str(answer_fd)]
        ours = os.sched_getaffinity(0)
        try:
            # A new process starts on the cores of the thread that forks it: this pins it before its first instruction.
            os.sched_setaffinity(0, spec.cores)
        except OSError as error:
            raise QuantfleetError(
                ErrorCode.WORKER_FAILED,
                f"cannot pin a run to cores {list(spec.cores)}: {error.strerror}",
                "give the worker cores that its control group allows (`quantfleet worker probe` lists them)",
            ) from error
        try:
            process = subprocess.Popen(
                [spec.interpreter, "-m", "quantfleet_worker.execution.child", *arguments, "--handler", spec.handler],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(request_fd, answer_fd),
                env=environment_of(spec, os.environ),
                process_group=0,
            )
        except OSError as error:
            raise QuantfleetError(
                ErrorCode.ENGINE_MISSING,
                f"cannot start {spec.interpreter}: {error.strerror}",
                "check the interpreter that the worker's configuration names for this engine",
            ) from error
        finally:
            os.sched_setaffinity(0, ours)
        return process

    def _converse(self, process: subprocess.Popen[bytes], request: bytes, ours: list[int]) -> str:
        """Feed the request and read answers until the child has ended. Returns what was wrong with its answers."""
        request_write, answer_read = ours
        assert process.stdout is not None
        printed = process.stdout.fileno()
        ended = os.pidfd_open(process.pid)
        decoder, broken, remaining = Decoder(), "", memoryview(request)
        with selectors.DefaultSelector() as selector:
            try:
                for fd in (answer_read, printed, request_write):
                    os.set_blocking(fd, False)
                selector.register(request_write, selectors.EVENT_WRITE)
                for fd in (answer_read, printed, ended):
                    selector.register(fd, selectors.EVENT_READ)
                alive = True
                while alive:
                    ready = {key.fd for key, _ in selector.select()}
                    alive = ended not in ready
                    # After the end, what is already in the pipes is read too, but nothing is waited for.
                    if request_write in ready and alive:
                        remaining = _write(request_write, remaining)
                        if not remaining:
                            selector.unregister(request_write)
                            ours.remove(request_write)
                            os.close(request_write)
                    if printed in ready or not alive:
                        self._keep(selector, printed, drain=not alive)
                    if (answer_read in ready or not alive) and not broken:
                        broken = self._hear(selector, answer_read, decoder, drain=not alive)
                        if broken:
                            os.killpg(process.pid, signal.SIGKILL)
            finally:
                os.close(ended)
        return broken

    def _keep(self, selector: selectors.BaseSelector, fd: int, *, drain: bool) -> None:
        for chunk in _chunks(selector, fd, drain):
            self._tail = (self._tail + chunk)[-TAIL_BYTES:]

    def _hear(self, selector: selectors.BaseSelector, fd: int, decoder: Decoder, *, drain: bool) -> str:
        try:
            for chunk in _chunks(selector, fd, drain):
                for frame in decoder.feed(chunk):
                    self._take(frame)
            if drain:
                decoder.finish()
        except (FrameError, ValueError) as error:
            if fd in selector.get_map():
                selector.unregister(fd)
            return str(error)
        return ""

    def _take(self, frame: Frame) -> None:
        if frame.kind is Kind.PROGRESS:
            fraction, message = json.loads(frame.payload)
            if self._on_progress is not None:
                self._on_progress(float(fraction), str(message))
        elif frame.kind is Kind.USAGE:
            self._peak_rss_bytes = int(json.loads(frame.payload)["peak_rss_bytes"])
        elif frame.kind is Kind.LOG:
            self._traceback += frame.payload.decode(errors="replace")
        elif self._answer is None:
            self._answer = frame

    def _reap(self, process: subprocess.Popen[bytes], started: float) -> Usage:
        with self._lock:
            # Alive or a zombie, it still owns its process group's id: what it leaves behind dies before that is free.
            os.killpg(process.pid, signal.SIGKILL)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self._process = None
        if process.stdout is not None:
            process.stdout.close()
        return Usage(self._peak_rss_bytes, used.ru_utime + used.ru_stime, time.monotonic() - started)

    def _outcome(self, code: int, usage: Usage, broken: str) -> Outcome:
        tail = self._tail.decode(errors="replace")
        log = "\n".join(part for part in (tail.rstrip(), self._traceback.rstrip()) if part)
        answer = self._answer
        if code == 0 and not broken and answer is not None:
            if answer.kind is Kind.RESULT:
                return Result(answer.payload, log, usage)
            return Failed(_error(json.loads(answer.payload)), log, usage)
        if self._killed:
            return Cancelled(usage)
        if broken:
            return Crashed(f"the engine's process gave a broken answer: {broken}", "", None, tail, usage=usage)
        if code < 0:
            name = signal.Signals(-code).name
            why = ", as the kernel does where memory runs out" if name == "SIGKILL" else ""
            return Crashed(f"the engine's process was ended by {name}{why}", name, None, tail, usage=usage)
        return Crashed(f"the engine's process ended without an answer (exit code {code})", "", code, tail, usage=usage)


def _error(body: Mapping[str, Any]) -> QuantfleetError:
    return QuantfleetError(ErrorCode(body["code"]), body["what"], body["todo"])


def _write(fd: int, data: memoryview) -> memoryview:
    try:
        return data[os.write(fd, data[:_CHUNK_BYTES]) :]
    except BlockingIOError:
        return data
    except BrokenPipeError:  # it died, or never reads: its end tells more
        return data[:0]


def _chunks(selector: selectors.BaseSelector, fd: int, drain: bool) -> list[bytes]:
    """What can be read now: one chunk, or all there is with `drain`. Stops watching a descriptor that has ended."""
    chunks: list[bytes] = []
    while fd in selector.get_map():
        try:
            chunk = os.read(fd, _CHUNK_BYTES)
        except BlockingIOError:
            break
        if not chunk:
            selector.unregister(fd)
            break
        chunks.append(chunk)
        if not drain:
            break
    return chunks
