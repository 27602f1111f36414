"""The fleet as four hosts: coordinator, two nodes and a user, each in a network namespace of its own. Needs root.

`make test-namespaces` runs it; the hosts talk over a bridge that this test makes and removes, and reach nothing else.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.conftest import write_job, write_model, write_samples
from tests.system.fleet import until

HOSTS = {"coordinator": "10.77.0.1", "node-a": "10.77.0.2", "node-b": "10.77.0.3", "user": "10.77.0.4"}
PREFIX = "qf-test-"


def ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[None]:
    """Namespaces joined by a bridge that lives in a namespace too."""
    try:
        ip("netns", "add", f"{PREFIX}bridge")
        ip("-n", f"{PREFIX}bridge", "link", "add", "bridge0", "type", "bridge")
        ip("-n", f"{PREFIX}bridge", "link", "set", "bridge0", "up")
        for index, (name, address) in enumerate(HOSTS.items()):
            space = PREFIX + name
            ip("netns", "add", space)
            ip("-n", space, "link", "set", "lo", "up")
            ip("-n", space, "link", "add", "eth0", "type", "veth", "peer", "name", f"port{index}")
            ip("-n", space, "link", "set", f"port{index}", "netns", f"{PREFIX}bridge")
            ip("-n", f"{PREFIX}bridge", "link", "set", f"port{index}", "master", "bridge0", "up")
            ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
        yield
    finally:
        for name in ("bridge", *HOSTS):
            ip("netns", "delete", PREFIX + name, check=False)


def command(host: str, *arguments: str) -> list[str]:
    return ["ip", "netns", "exec", PREFIX + host, sys.executable, "-m", "quantfleet", *arguments]


def run(host: str, *arguments: str) -> str:
    done = subprocess.run(command(host, *arguments), capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, f"{host}: {arguments[:2]} exited {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def test_a_user_on_a_third_host_has_a_job_done_by_two_others(hosts: None, tmp_path: Path) -> None:
    write_model(tmp_path / "net.onnx")
    write_samples(tmp_path / "samples", 24)
    targets = "[{engines: [onnxruntime-cpu], precisions: [fp32, int8]}]"
    job = write_job(tmp_path, "apart", shards=4, targets=targets, benchmark="{modes: [runtime], repeat: 100}")
    state = tmp_path / "coordinator"
    admin = ["--credentials", str(state / "admin")]
    address = HOSTS["coordinator"]
    serve = ["coordinator", "serve", "--state", str(state), "--listen", f"{address}:7443"]
    serve += ["--enrol-listen", f"{address}:7444", "--advertise", address, "--json"]
    processes = [subprocess.Popen(command("coordinator", *serve), stdout=subprocess.PIPE)]
    try:
        assert processes[0].stdout is not None
        assert json.loads(processes[0].stdout.readline())
        for node in ("node-a", "node-b"):
            made = run("coordinator", "token", "create", "--node", node, "--json", *admin)
            run(node, "worker", "join", json.loads(made)["token"], "--state", str(tmp_path / node))
            work = command(
                node, "worker", "run", "--state", str(tmp_path / node), "--cores", str(int(node == "node-b"))
            )
            processes.append(subprocess.Popen(work))
        made = run("coordinator", "user", "create", "anna", "--role", "submitter", "--json", *admin)
        mine = ["--credentials", str(tmp_path / "anna")]
        run("user", "login", json.loads(made)["token"], *mine)
        until(
            lambda: sum(n["state"] == "live" for n in json.loads(run("user", "node", "list", "--json", *mine))) == 2,
            "both nodes are live",
        )
        run("user", "job", "submit", str(job), "--watch", "--out", str(tmp_path / "out"), *mine)
        report = json.loads((tmp_path / "out" / "report.json").read_bytes())
        assert report["job"]["state"] == "succeeded"
        assert {row["precision"] for row in report["results"]} == {"fp32", "int8"}
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=30)
