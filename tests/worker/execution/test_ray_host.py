"""A real Ray with real actors and children: placement, cancellation, the death of each process, two hosts at once."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from quantfleet_domain.errors import ErrorCode
from quantfleet_worker.execution.outcome import Cancelled, Crashed, Failed, Outcome, Result
from quantfleet_worker.execution.ray_host import RayHost
from quantfleet_worker.execution.spec import RunSpec

SpecOf = Callable[..., RunSpec]
A, B = "cpu:0/0", "cpu:0/1"


@pytest.fixture(scope="session")
def host() -> Iterator[RayHost]:
    with RayHost((A, B)) as started:
        yield started


async def start(host: RayHost, slot: str, spec: RunSpec) -> tuple[asyncio.Task[Outcome], str]:
    """Start a run, and wait for the first message that its handler reports."""
    run = asyncio.create_task(host.run(slot, b"", spec))
    # The event is another process's.
    while (await host.pids(slot))[1] is None or not (await host.progress(slot))[1]:
        await asyncio.sleep(0.02)
    return run, (await host.progress(slot))[1]


def test_two_slots_run_at_once_each_on_its_own_cores(host: RayHost, spec_of: SpecOf) -> None:
    cores = sorted(os.sched_getaffinity(0))

    async def both() -> list[Outcome]:
        specs = (spec_of("surroundings", (cores[0],)), spec_of("surroundings", (cores[-1],), threads=2))
        return await asyncio.gather(*(host.run(slot, b"", spec) for slot, spec in zip((A, B), specs, strict=True)))

    outcomes = asyncio.run(both())
    seen = [json.loads(outcome.payload) for outcome in outcomes if isinstance(outcome, Result)]
    assert [one["threads"] for one in seen] == [[[cores[0]]], [[cores[-1]]]]
    assert [one["environment"]["OMP_NUM_THREADS"] for one in seen] == ["1", "2"]
    assert [one["niceness"] for one in seen] == [os.nice(0)] * 2
    assert not [name for one in seen for name in one["environment"] if name.startswith("RAY_")]


def test_a_crash_of_the_engine_leaves_the_actor_alive(host: RayHost, spec_of: SpecOf) -> None:
    async def crash_then_work() -> None:
        before = (await host.pids(A))[0]
        crash = await host.run(A, b"", spec_of("segfault"))
        assert isinstance(crash, Crashed)
        assert (crash.signal, crash.infrastructure) == ("SIGSEGV", False)
        work = await host.run(A, b"abc", spec_of("echo"))
        assert isinstance(work, Result)
        assert work.payload == b"cba"
        assert (await host.pids(A))[0] == before

    asyncio.run(crash_then_work())


def test_errors_pass_through_ray_as_they_were_raised(host: RayHost, spec_of: SpecOf) -> None:
    async def fail() -> tuple[Outcome, Outcome]:
        missing = RunSpec((0,), interpreter="/nowhere/python")
        return await host.run(A, b"", spec_of("refuse")), await host.run(A, b"", missing)

    refused, missing = asyncio.run(fail())
    assert isinstance(refused, Failed)
    assert isinstance(missing, Failed)
    assert (refused.error.code, refused.error.todo) == (ErrorCode.MODEL_UNREADABLE, "export it again")
    assert missing.error.code is ErrorCode.ENGINE_MISSING


def test_cancelling_kills_the_run_and_not_the_next_one(
    host: RayHost, spec_of: SpecOf, gone: Callable[[int], bool]
) -> None:
    async def cancel() -> None:
        run, child = await start(host, A, spec_of("hang"))
        host.cancel(A)
        assert isinstance(await run, Cancelled)
        assert gone(int(child))
        host.cancel(A)  # there is no run any more
        assert isinstance(await host.run(A, b"abc", spec_of("echo")), Result)

    asyncio.run(cancel())


def test_a_run_that_nobody_awaits_any_more_is_killed_and_leaves_its_slot_free(
    host: RayHost, spec_of: SpecOf, gone: Callable[[int], bool]
) -> None:
    async def abandon() -> None:
        run, child = await start(host, A, spec_of("hang"))
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert isinstance(await host.run(A, b"abc", spec_of("echo")), Result)
        assert await asyncio.to_thread(gone, int(child))

    asyncio.run(abandon())


def test_a_killed_actor_takes_its_child_and_grandchild_along_and_is_replaced(
    host: RayHost, spec_of: SpecOf, gone: Callable[[int], bool]
) -> None:
    async def kill() -> None:
        run, family = await start(host, A, spec_of("hang_with_grandchild"))
        actor, _ = await host.pids(A)
        os.kill(actor, signal.SIGKILL)
        outcome = await run
        assert isinstance(outcome, Crashed)
        assert outcome.infrastructure
        assert outcome.error.code is ErrorCode.TASK_LOST
        assert all(gone(int(pid)) for pid in family.split())
        assert (await host.pids(A))[0] != actor
        assert isinstance(await host.run(A, b"abc", spec_of("echo")), Result)

    asyncio.run(kill())


def listens_at(process: psutil.Process) -> set[str]:
    """The addresses that a process and its descendants accept connections on; what has just ended accepts none."""
    found = set()
    for member in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            connections = member.net_connections("inet")
            found |= {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}
    return found


def names(processes: list[psutil.Process]) -> dict[int, str]:
    """The names by process identifier, without those that have just ended."""
    found = {}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found[process.pid] = process.name()
    return found


LOOPBACK = {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_everything_listens_on_loopback_only_and_no_token_is_written(host: RayHost) -> None:
    assert set() < listens_at(psutil.Process()) <= LOOPBACK
    assert not (Path.home() / ".ray" / "auth_token").exists()


def test_a_second_host_runs_beside_the_first_and_vanishes_when_it_is_killed(
    host: RayHost, spec_of: SpecOf, gone: Callable[[int], bool]
) -> None:
    program = textwrap.dedent(
        f"""
        import asyncio
        import ray  # before the host has set Ray's environment
        from quantfleet_worker.execution.ray_host import RayHost
        from quantfleet_worker.execution.spec import RunSpec

        async def main(host):
            run = asyncio.create_task(host.run("cpu:0/0", b"", {spec_of("hang_with_grandchild")!r}))
            while not (message := (await host.progress("cpu:0/0"))[1]):
                await asyncio.sleep(0.05)
            print(host._directory.path, message, flush=True)
            await run

        host = RayHost(("cpu:0/0",))
        host.start()
        asyncio.run(main(host))
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        directory, child, grandchild = other.stdout.readline().split()
        assert isinstance(asyncio.run(host.run(A, b"abc", spec_of("echo"))), Result)
        family = names(psutil.Process(other.pid).children(recursive=True))
        assert {int(child), int(grandchild)} < set(family)
        assert {"gcs_server", "raylet"} < set(family.values())
        assert set() < listens_at(psutil.Process(other.pid)) <= LOOPBACK
        other.kill()
    assert all(gone(pid) for pid in family), family
    assert not Path(directory).exists()
    assert isinstance(asyncio.run(host.run(A, b"abc", spec_of("echo"))), Result)
