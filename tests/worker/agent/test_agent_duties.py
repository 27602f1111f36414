"""What an agent must not get wrong while it holds tasks: heartbeats, deadlines, stopping, and a new certificate."""

import asyncio
import contextlib
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quantfleet_coordinator.testing import LocalFleet
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.facts import CpuFacts, DeviceFacts
from quantfleet_domain.jobs.work import InspectWork
from quantfleet_protos.v1 import fleet_pb2, task_pb2
from quantfleet_protos.v1.artifacts_pb2 import StatRequest
from quantfleet_protos.v1.artifacts_pb2_grpc import ArtifactsStub
from quantfleet_wire.codec import encode
from quantfleet_wire.identity_files import load_credentials, save_credentials
from quantfleet_worker.agent import agent as agent_module
from quantfleet_worker.agent import attempt as attempt_module
from quantfleet_worker.agent.agent import Agent, Identity, slot_names
from quantfleet_worker.agent.attempt import Attempt
from quantfleet_worker.execution.outcome import Outcome
from quantfleet_worker.execution.ray_host import RayHost
from quantfleet_worker.execution.spec import RunSpec

BOUND_S = 20.0
HOUR_S = 3600.0
CPU = CpuFacts("Test CPU", "Test", "x86_64", ("avx2",), 1, 1, 1, 2**30, None, None, None, "")
DEVICES = (DeviceFacts("cpu:0", "cpu", CPU, (), (0,), (0,), "machine", "x86_64/avx2", True),)
WORK = encode(InspectWork("net", "onnx", (), (), None), task_pb2.Work)


async def agent_of(fleet: LocalFleet, state: Path, host: RayHost | None = None) -> Agent:
    save_credentials(state / "credentials", await fleet.enrol("n1"))
    return Agent(state, DEVICES, host or RayHost(slot_names(DEVICES)))


def attempt_of(agent: Agent, task: str, kind: type[Attempt] = Attempt) -> Attempt:
    """An attempt that the agent holds, and that has not been started."""
    leased = fleet_pb2.LeasedTask(job_id="job", task_id=task, epoch=1, device="cpu:0", work=WORK, cores=1)
    attempt = kind(leased, agent._workshop, agent._stubs)
    attempt.deadline = time.monotonic() + HOUR_S
    agent._held["job", task, 1] = attempt
    return attempt


def test_a_heartbeat_lists_every_task_of_the_reply_that_it_names(tmp_path: Path) -> None:
    async def main() -> None:
        async with LocalFleet(tmp_path) as fleet:
            agent = await agent_of(fleet, tmp_path / "node")
            sent: asyncio.Future[fleet_pb2.HeartbeatRequest] = asyncio.get_running_loop().create_future()

            class Watched(Attempt):
                async def observe(self) -> None:
                    # While it is looked at, the answer to a poll arrives and brings another task.
                    agent._last_reply = 8
                    attempt_of(agent, "new")

            async def heartbeat(request: fleet_pb2.HeartbeatRequest, **_: Any) -> None:
                sent.set_result(request)
                await asyncio.Event().wait()

            attempt_of(agent, "old", Watched)
            stub: Any = SimpleNamespace(Heartbeat=heartbeat)
            agent._fleet = lambda: stub  # type: ignore[method-assign]  # stands for the stub of one call
            beating = asyncio.create_task(agent._heartbeat())
            request = await asyncio.wait_for(sent, BOUND_S)
            assert (request.last_reply, sorted(item.task_id for item in request.held)) == (8, ["new", "old"])
            beating.cancel()

    asyncio.run(main())


def test_a_stuck_actor_holds_up_no_heartbeat(tmp_path: Path) -> None:
    class Stuck(RayHost):
        async def progress(self, slot: str) -> tuple[float, str]:
            await asyncio.Event().wait()
            raise AssertionError(slot)

    async def main() -> None:
        async with LocalFleet(tmp_path) as fleet:
            agent = await agent_of(fleet, tmp_path / "node", Stuck(slot_names(DEVICES)))
            attempt = attempt_of(agent, "one")
            attempt._slot = "cpu:0/0"
            await asyncio.wait_for(attempt.observe(), BOUND_S)
            assert attempt.held().doing == "waiting for its inputs"

    asyncio.run(main())


def test_a_task_is_killed_when_its_lease_has_run_out_though_no_heartbeat_is_due(tmp_path: Path) -> None:
    async def main() -> None:
        async with LocalFleet(tmp_path, heartbeat_s=HOUR_S) as fleet:
            agent = await agent_of(fleet, tmp_path / "node")
            stopped, reasons = asyncio.Event(), list[str]()

            class Overdue(Attempt):
                def stop(self, why: str) -> None:
                    reasons.append(why)
                    stopped.set()

            attempt_of(agent, "one", Overdue).deadline = time.monotonic() - 1
            running = asyncio.create_task(agent.run())
            await asyncio.wait_for(stopped.wait(), BOUND_S)
            assert reasons == ["its lease has run out"]
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    asyncio.run(main())


def test_a_task_that_is_stopped_again_keeps_its_slot_until_its_child_is_gone(tmp_path: Path) -> None:
    class Slow(RayHost):
        """Its child dies when `gone` is set."""

        async def run(self, slot: str, request: bytes, spec: RunSpec) -> Outcome:
            del slot, request, spec
            running.set()
            try:
                await asyncio.Event().wait()
                raise AssertionError
            except asyncio.CancelledError:
                await gone.wait()
                ended.append("child")
                raise

    running, gone, ended = asyncio.Event(), asyncio.Event(), list[str]()

    async def main() -> None:
        async with LocalFleet(tmp_path) as fleet:
            agent = await agent_of(fleet, tmp_path / "node", Slow(slot_names(DEVICES)))
            attempt = attempt_of(agent, "one")
            free = agent._workshop.free["cpu:0"]
            attempt.start(lambda: ended.append("attempt"))
            await asyncio.wait_for(running.wait(), BOUND_S)
            for _ in range(2):
                attempt.stop("the coordinator has taken it back")
                await asyncio.sleep(0.05)
            assert (ended, free.qsize()) == ([], 0)
            gone.set()
            async with asyncio.timeout(BOUND_S):
                while "attempt" not in ended:
                    await asyncio.sleep(0.01)
            assert (ended, free.qsize()) == (["child", "attempt"], 1)

    asyncio.run(main())


def test_a_node_that_cannot_write_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with LocalFleet(tmp_path) as fleet:
            agent = await agent_of(fleet, tmp_path / "node")
            sent: asyncio.Future[fleet_pb2.FailRequest] = asyncio.get_running_loop().create_future()

            async def fail(request: fleet_pb2.FailRequest) -> None:
                sent.set_result(request)

            stub: Any = SimpleNamespace(Fail=fail)
            agent._fleet = lambda: stub  # type: ignore[method-assign]  # stands for the stub of one call
            (tmp_path / "node" / "work").rmdir()
            attempt_of(agent, "one").start(lambda: None)
            failure = (await asyncio.wait_for(sent, BOUND_S)).failure
            assert (failure.code, str(tmp_path / "node" / "work") in failure.what) == (ErrorCode.STORE_FAILED, True)

    asyncio.run(main())


async def until_renewed(agent: Agent, former: Identity) -> None:
    async with asyncio.timeout(BOUND_S):
        while agent._identity is former:
            await asyncio.sleep(0.02)


def test_what_is_under_way_goes_on_when_the_certificate_is_renewed(tmp_path: Path) -> None:
    async def main() -> None:
        async with LocalFleet(tmp_path, heartbeat_s=0.05) as fleet:
            agent = await agent_of(fleet, tmp_path / "node")
            former = agent._identity = replace(agent._identity, opened=agent._identity.opened - 20 * HOUR_S)
            running = asyncio.create_task(agent.run())
            await until_renewed(agent, former)
            await asyncio.sleep(0.1)
            # A transfer of many files makes one call after another through the stub that it began with.
            found = await ArtifactsStub(former.channel).Stat(StatRequest(digests=["0" * 64]))
            assert [status.present for status in found.artifacts] == [False]
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    asyncio.run(main())


def test_a_wall_clock_that_is_wrong_neither_renews_for_ever_nor_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with LocalFleet(tmp_path) as fleet:
            directory = (await agent_of(fleet, tmp_path / "node"))._identity.directory
        real = time.time()
        fresh, loaded = Identity.open(directory, renewed=True), Identity.open(directory)
        old = 20 * HOUR_S
        monkeypatch.setattr(time, "time", lambda: real + 30 * 24 * HOUR_S)
        assert not fresh.renewal_due()
        assert loaded.renewal_due()
        monkeypatch.setattr(time, "time", lambda: real - 30 * 24 * HOUR_S)
        assert not loaded.renewal_due()
        assert all(replace(identity, opened=identity.opened - old).renewal_due() for identity in (fresh, loaded))

    asyncio.run(main())


def test_a_renewed_certificate_that_cannot_be_saved_ends_no_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with LocalFleet(tmp_path, heartbeat_s=0.05) as fleet:
            agent = await agent_of(fleet, tmp_path / "node")
            former = agent._identity = replace(agent._identity, opened=agent._identity.opened - 20 * HOUR_S)
            credentials = tmp_path / "node" / "credentials"
            monkeypatch.setattr(agent_module, "_RENEW_AGAIN_S", 0.05)
            hidden = credentials.rename(tmp_path / "hidden")
            credentials.write_bytes(b"")  # not a directory: nothing can be saved there
            running = asyncio.create_task(agent.run())
            await asyncio.wait({running}, timeout=1.0)
            assert not running.done()
            assert agent._identity is former
            credentials.unlink()
            hidden.rename(credentials)
            await until_renewed(agent, former)
            assert load_credentials(credentials).key_pem != former.credentials.key_pem
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    asyncio.run(main())


def test_a_result_waits_for_a_coordinator_whose_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    async def upload_missing(stub: Any, files: Any) -> None:
        tries.append("upload")
        if len(tries) < 3:
            raise QuantfleetError(ErrorCode.STORAGE_FULL, "the coordinator's disk is full")

    async def complete(request: fleet_pb2.CompleteRequest) -> None:
        tries.append(request.task_id)

    async def main() -> None:
        async with LocalFleet(tmp_path) as fleet:
            agent = await agent_of(fleet, tmp_path / "node")
            stub: Any = SimpleNamespace(Complete=complete)
            agent._stubs = lambda: (stub, stub)  # type: ignore[method-assign]  # stands for the stubs of two calls
            await attempt_of(agent, "one")._deliver(b"", tmp_path)

    monkeypatch.setattr(attempt_module, "upload_missing", upload_missing)
    monkeypatch.setattr(attempt_module, "_RETRY_S", 0.01)
    asyncio.run(main())
    assert tries == ["upload", "upload", "upload", "one"]
