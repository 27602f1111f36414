"""What a killed host leaves behind is found by its mark, and nothing else is touched."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from quantfleet_worker.execution.strays import MARK, HostDirectory, kill_marked, sweep_dead_hosts

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def marked(mark: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(SLEEP, env={**os.environ, MARK: mark}, start_new_session=True)


def test_only_processes_of_the_mark_are_killed(tmp_path: Path) -> None:
    first, second, longer = marked(f"{tmp_path}:cpu:0/0"), marked(f"{tmp_path}:cpu:0/1"), marked(f"{tmp_path}x")
    kill_marked(f"{tmp_path}:cpu:0/0")
    assert first.wait() == -9
    assert (second.poll(), longer.poll()) == (None, None)
    kill_marked(str(tmp_path))
    assert second.wait() == -9
    assert longer.poll() is None
    longer.kill()
    longer.wait()


def test_a_living_host_is_left_alone_and_a_removed_one_leaves_nothing(tmp_path: Path) -> None:
    host = HostDirectory(tmp_path)
    process = marked(str(host.path))
    sweep_dead_hosts(tmp_path)
    assert host.path.is_dir()
    assert process.poll() is None
    host.remove()
    assert process.wait() == -9
    assert list(tmp_path.iterdir()) == []


def test_the_next_host_cleans_up_after_one_that_was_killed_with_its_warden(tmp_path: Path) -> None:
    directory = tmp_path / "qf-dead"
    directory.mkdir()
    (directory / "lock").touch()
    process = marked(str(directory))
    sweep_dead_hosts(tmp_path)
    assert process.wait() == -9
    assert not directory.exists()


def test_the_warden_cleans_up_when_its_host_is_killed(tmp_path: Path, gone: Callable[[int], bool]) -> None:
    program = (
        "import sys, time; from pathlib import Path; from quantfleet_worker.execution.strays import HostDirectory\n"
        "host = HostDirectory(Path(sys.argv[1])); print(host.path, host._warden.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        path, warden = host.stdout.readline().split()
        process = marked(path)
        host.kill()
    assert process.wait() == -9
    assert gone(int(warden))
    assert not Path(path).exists()
