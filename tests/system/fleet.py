"""A fleet of real processes for tests: a coordinator and workers started by the command line, each killable by pid."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LEASE_S, HEARTBEAT_S = 6.0, 0.5
PATIENCE_S = 120.0


def quantfleet(*arguments: str, check: bool = True, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "quantfleet", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert not check or done.returncode == 0, f"{arguments} exited {done.returncode}: {done.stdout}{done.stderr}"
    return done


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """Poll until a condition is true; fail with `what` when it does not come."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {timeout_s:g} s in vain until {what}")


@dataclass
class RunningFleet:
    """A coordinator in `directory`, and workers by name. `program` is what Python runs as the coordinator."""

    directory: Path
    program: tuple[str, ...] = ("-m", "quantfleet")
    coordinator: subprocess.Popen[bytes] | None = None
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))

    @property
    def admin(self) -> list[str]:
        """Options that make a command the first admin's."""
        return ["--credentials", str(self.directory / "coordinator" / "admin")]

    def start_coordinator(self) -> None:
        main, enrolment = self.ports
        command = ["coordinator", "serve", "--state", str(self.directory / "coordinator")]
        command += ["--listen", f"127.0.0.1:{main}", "--enrol-listen", f"127.0.0.1:{enrolment}"]
        command += ["--lease-s", str(LEASE_S), "--heartbeat-s", str(HEARTBEAT_S), "--json"]
        self.coordinator = self._spawn("coordinator", command, subprocess.PIPE, self.program)
        assert self.coordinator.stdout is not None
        line = self.coordinator.stdout.readline()
        assert line, f"the coordinator did not start: {self.log('coordinator')}"

    def enrol(self, name: str) -> None:
        """Make a token and redeem it as a new node."""
        made = quantfleet("token", "create", "--node", name, "--json", *self.admin)
        quantfleet("worker", "join", json.loads(made.stdout)["token"], "--state", str(self.directory / name))

    def start_worker(self, name: str, cores: str, *options: str) -> None:
        command = ["worker", "run", "--state", str(self.directory / name), "--cores", cores, *options]
        self.workers[name] = self._spawn(name, command, subprocess.DEVNULL)

    def wait_live(self, *names: str) -> None:
        until(lambda: {n["name"] for n in self.nodes() if n["state"] == "live"} >= set(names), f"{names} live")

    def nodes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(quantfleet("node", "list", "--json", *self.admin).stdout)
        return found

    def submit(self, job: Path) -> str:
        identifier: str = json.loads(quantfleet("job", "submit", str(job), "--json", *self.admin).stdout)["job_id"]
        return identifier

    def status(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(quantfleet("job", "status", job, "--json", *self.admin).stdout)
        return found

    def tasks(self, job: str, kind: str, state: str) -> list[dict[str, Any]]:
        return [t for t in self.status(job)["tasks"] if (t["kind"], t["state"]) == (kind, state)]

    def wait_ended(self, job: str) -> str:
        def ended() -> str | None:
            state: str = self.status(job)["job"]["state"]
            return state if state != "running" else None

        state: str = until(ended, f"job {job} ended")
        return state

    def report(self, job: str) -> dict[str, Any]:
        """Fetch the report and all files; returns report.json. The command's exit code speaks of the job."""
        out = self.directory / f"report-{job}"
        quantfleet("job", "report", job, "--out", str(out), *self.admin, check=False)
        found: dict[str, Any] = json.loads((out / "report.json").read_bytes())
        return found

    def kill(self, name: str) -> None:
        """`kill -9` of one process."""
        process = self.coordinator if name == "coordinator" else self.workers.pop(name)
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=30)

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        processes = [*self.workers.values(), *([self.coordinator] if self.coordinator else [])]
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=20)
            if process.stdout:
                process.stdout.close()

    def _spawn(
        self, name: str, command: Sequence[str], stdout: int, program: Sequence[str] = ("-m", "quantfleet")
    ) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen([sys.executable, *program, *command], stdout=stdout, stderr=log)
