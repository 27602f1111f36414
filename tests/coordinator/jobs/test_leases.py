"""Leases over the wire: one result a task, no result of an old lease, nothing lost with a node."""

import asyncio
from dataclasses import replace

from tests.coordinator.jobs.fleet_play import Play, ended, join, refused, state, until, working
from tests.coordinator.jobs.scripted_node import (
    MODEL,
    SAMPLES,
    TARGET,
    ScriptedNode,
    device,
    job_spec,
    make_result,
    submit,
)

from quantfleet_coordinator.jobs.dispatcher import rest_s
from quantfleet_coordinator.testing import LocalFleet
from quantfleet_domain.errors import ErrorCode
from quantfleet_domain.jobs.spec import FileRef
from quantfleet_domain.jobs.task_results import (
    CalibrateResult,
    InspectResult,
)
from quantfleet_protos.v1 import control_pb2
from quantfleet_wire.content import digest_bytes
from quantfleet_wire.transfer import fetch_bytes, upload


def test_a_result_may_be_sent_again_and_changed_never(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        job = await submit(fleet, job_spec())
        (inspect,) = await node.acquire()
        result, files = make_result(inspect)
        assert isinstance(result, InspectResult)
        for content in files:
            await upload(node.artifacts, content, digest_bytes(content))
        await asyncio.gather(*(node.complete(inspect, result) for _ in range(5)))
        await node.complete(inspect, result)
        other = InspectResult(result.reference, result.graph, result.numerics, (), ("other",))
        await refused(node.complete(inspect, other), ErrorCode.RESULT_CONFLICT)
        await fleet.control.CancelJob(control_pb2.CancelJobRequest(job_id=job))
        events = [event.task async for event in fleet.control.WatchJob(control_pb2.WatchJobRequest(job_id=job))]
        assert [(t.task_id, t.state) for t in events].count(("net/inspect", "succeeded")) == 1

    play(scenario)


def test_a_result_must_be_of_its_lease_its_node_its_kind_and_have_its_artifacts(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node, other = await join(fleet, "n1"), await join(fleet, "n2", [device(machine="m2")])
        await submit(fleet, job_spec())
        (inspect,) = await node.acquire()
        await refused(other.complete(inspect), ErrorCode.LEASE_STALE)
        inspect.epoch += 1
        await refused(node.complete(inspect), ErrorCode.LEASE_STALE)
        inspect.epoch -= 1
        foreign = CalibrateResult((FileRef("p", digest_bytes(MODEL), 1),), 4, 0.1, "numpy")
        await refused(node.complete(inspect, foreign), ErrorCode.WORKER_FAILED)
        result, _ = make_result(inspect)
        assert isinstance(result, InspectResult)
        missing = InspectResult(FileRef("r.onnx", "0" * 64, 1), result.graph, result.numerics, result.input_shapes, ())
        await refused(node.complete(inspect, missing), ErrorCode.ARTIFACT_NOT_FOUND)
        escaping = InspectResult(
            FileRef("../r.onnx", "0" * 64, 1), result.graph, result.numerics, result.input_shapes, ()
        )
        await refused(node.complete(inspect, escaping), ErrorCode.WORKER_FAILED)
        await node.complete(inspect)

    play(scenario)


def test_a_lease_that_runs_out_goes_to_another_node_and_the_late_result_is_refused(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        silent, other = await join(fleet, "n1"), await join(fleet, "n2", [device(machine="m2")])
        await submit(fleet, job_spec())
        (first,) = await silent.acquire()
        again = await other.acquire_until("net/inspect")
        assert again.epoch == first.epoch + 1
        await refused(silent.complete(first), ErrorCode.LEASE_STALE)
        await other.complete(again)

    play(scenario, lease_s=0.6)


def test_heartbeats_keep_a_lease(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        job = await submit(fleet, job_spec())
        (inspect,) = await node.acquire()
        for _ in range(8):
            await asyncio.sleep(0.1)
            assert await node.heartbeat([inspect], "looking") == []
        seen = await state(fleet, job, "net/inspect")
        assert (seen.state, seen.epoch, seen.doing) == ("leased", 1, "looking")

    play(scenario, lease_s=0.5)


def test_a_new_run_of_a_node_fences_the_old_one_and_gets_its_tasks_at_once(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        old = await join(fleet, "n1")
        job = await submit(fleet, job_spec())
        (first,) = await old.acquire()
        poll = asyncio.create_task(old.acquire(20))
        new = ScriptedNode(old.channel)
        await new.register()
        assert (await state(fleet, job, "net/inspect")).state == "ready"
        await refused(poll, ErrorCode.INCARNATION_STALE)
        (again,) = await new.acquire()
        assert (again.task_id, again.epoch) == (first.task_id, 2)
        for call in (old.complete(first), old.heartbeat([first]), old.acquire()):
            await refused(call, ErrorCode.INCARNATION_STALE)
        await new.complete(again)

    play(scenario)


def test_a_node_that_joins_again_loses_what_it_held(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        old = await join(fleet, "n1")
        job = await submit(fleet, job_spec())
        await old.acquire()
        new = ScriptedNode(fleet.channel(await fleet.enrol("n1")))
        assert (await state(fleet, job, "net/inspect")).state == "ready"
        await refused(old.heartbeat(), ErrorCode.CERTIFICATE_REVOKED)
        await refused(new.acquire(), ErrorCode.INCARNATION_STALE)
        await new.register()
        assert [t.epoch for t in await new.acquire()] == [2]

    play(scenario)


def test_heartbeats_reconcile_both_ways(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        job = await submit(fleet, job_spec())
        (first,) = await node.acquire()
        # The reply did not arrive: asked anew with the old number, the lease is lost and given again.
        node.last_reply -= 1
        (second,) = await node.acquire()
        assert (first.epoch, second.epoch) == (1, 2)
        # A heartbeat that was sent before the reply arrived drops nothing.
        node.last_reply -= 1
        assert await node.heartbeat() == []
        assert (await state(fleet, job, "net/inspect")).state == "leased"
        # What a node does not hold any more is lost; what it holds without a lease it must stop.
        node.last_reply += 1
        assert await node.heartbeat([first]) == ["net/inspect"]
        assert (await state(fleet, job, "net/inspect")).state == "ready"
        assert await node.heartbeat([second]) == ["net/inspect"]

    play(scenario)


def test_a_poll_that_was_given_up_is_given_nothing(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        abandoned = asyncio.create_task(node.acquire(20))
        await asyncio.sleep(0)
        current = asyncio.create_task(node.acquire(20))
        assert await abandoned == []
        await submit(fleet, job_spec())
        assert [task.task_id for task in await current] == ["net/inspect"]

    play(scenario, lease_s=1.0)


def test_a_poll_returns_as_soon_as_a_task_is_ready(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        poll = asyncio.create_task(node.acquire(30))
        await asyncio.sleep(0.1)
        assert not poll.done()
        await submit(fleet, job_spec())
        async with asyncio.timeout(5):
            assert [task.task_id for task in await poll] == ["net/inspect"]

    play(scenario)


def test_a_benchmark_has_its_machine_alone_across_nodes(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        one, two = await join(fleet, "n1"), await join(fleet, "n2")  # two nodes on the machine m1
        busy = await submit(fleet, job_spec(shards=6, evaluate=False, targets=()))
        await one.complete((await one.acquire())[0])
        held = await one.acquire(5.0)
        pool = control_pb2.Pool(name="four", selector="logical_cores == 4")
        await fleet.control.PutPool(control_pb2.PutPoolRequest(pool=pool))
        target = replace(TARGET, pool="four")
        job = await submit(fleet, job_spec(evaluate=False, targets=(target,)))
        bench = "net/benchmark/0/onnxruntime-cpu"
        # A node of another machine does all but the benchmark, which its pool keeps from it.
        async with working(await join(fleet, "n3", [device(machine="m3", cores=2)])):
            await until(fleet, job, lambda found: _states(found)[bench] == "ready")
        await submit(fleet, job_spec(shards=6, evaluate=False, targets=()))
        assert await two.acquire() == []  # neither beside a shard nor, while it waits, another shared task
        explained = await fleet.control.ExplainJob(control_pb2.ExplainJobRequest(job_id=job))
        reasons = {waiting.task_id: waiting.reason for waiting in explained.waiting}
        assert "needs its machine alone; 2 leased" in reasons[bench]
        await one.complete(held[0])
        assert await two.acquire() == []
        poll = asyncio.create_task(two.acquire(10))
        await one.complete(held[1])
        (leased,) = await poll
        assert (leased.task_id, leased.exclusive, leased.cores) == (bench, True, 1)
        assert await one.acquire() == []
        assert await two.acquire() == []
        await two.complete(leased)
        assert await one.acquire() != []
        assert (await ended(fleet, busy)).job.state == "succeeded"

    play(scenario)


def _states(found: control_pb2.GetJobResponse) -> dict[str, str]:
    return {task.task_id: task.state for task in found.tasks}


def test_a_node_reads_only_what_its_tasks_refer_to(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        await submit(fleet, job_spec())
        model, sample = digest_bytes(MODEL), digest_bytes(SAMPLES[0])
        assert await fetch_bytes(fleet.artifacts, sample) == SAMPLES[0]
        await refused(fetch_bytes(node.artifacts, model), ErrorCode.ARTIFACT_FORBIDDEN)
        (inspect,) = await node.acquire()
        assert await fetch_bytes(node.artifacts, model) == MODEL
        await refused(fetch_bytes(node.artifacts, sample), ErrorCode.ARTIFACT_FORBIDDEN)
        await node.complete(inspect)
        await refused(fetch_bytes(node.artifacts, model), ErrorCode.ARTIFACT_FORBIDDEN)
        shards = await node.acquire()
        assert len(shards) == 2  # as many as the device has slots
        assert await fetch_bytes(node.artifacts, sample) == SAMPLES[0]
        await refused(fetch_bytes(node.artifacts, digest_bytes(SAMPLES[11])), ErrorCode.ARTIFACT_FORBIDDEN)

    play(scenario)


def test_failures_are_kept_and_budgets_end(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        job = await submit(fleet, job_spec())
        (inspect,) = await node.acquire()
        await node.fail(inspect, ErrorCode.ENGINE_CRASHED, "last words\0 of the engine")
        await refused(node.fail(inspect, ErrorCode.ENGINE_CRASHED), ErrorCode.LEASE_STALE)
        (inspect,) = await node.acquire()
        for _ in range(2):
            await node.fail(inspect, ErrorCode.ENGINE_CRASHED, "more words")
        found = await ended(fleet, job)
        assert found.job.state == "failed"
        assert {t.task_id: t.state for t in found.tasks}["net/merge"] == "skipped"
        logs = (await fleet.control.GetLogs(control_pb2.GetLogsRequest(job_id=job))).attempts
        assert [(log.epoch, log.node, log.failure.code) for log in logs] == [
            (e, "n1", "engine-crashed") for e in (1, 2)
        ]
        assert logs[0].log_tail.startswith("last words")

    play(scenario)


def test_a_cancelled_task_keeps_its_machine_until_its_node_has_let_it_go(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        one = await join(fleet, "n1")
        first = await submit(fleet, job_spec(shards=6, evaluate=False, targets=()))
        await one.complete((await one.acquire())[0])
        running = await one.acquire(5.0)
        bench = "net/benchmark/0/onnxruntime-cpu"
        # A node of another machine, which lacks the cores for the benchmark, does what comes before it.
        wide = replace(TARGET, threads=(4,))
        job = await submit(fleet, job_spec(evaluate=False, targets=(wide,)))
        async with working(await join(fleet, "n3", [device(machine="m3", cores=2)])):
            await until(fleet, job, lambda found: _states(found)[bench] == "ready")
        await fleet.control.CancelJob(control_pb2.CancelJobRequest(job_id=first))
        assert await one.acquire() == [], "the cancelled shards may still be running"
        assert await one.heartbeat(running) == [task.task_id for task in running]
        assert await one.acquire() == [], "it has been told, and has not let go yet"
        await one.heartbeat([])
        (leased,) = await one.acquire()
        assert leased.task_id == bench

    play(scenario)


def test_a_task_rests_between_failures_that_are_not_its_own(play: Play) -> None:
    assert [rest_s(failures) for failures in (1, 2, 3, 4, 20)] == [0.0, 1.0, 2.0, 4.0, 30.0]

    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        await submit(fleet, job_spec(evaluate=False, targets=()))
        for _ in range(2):
            (held,) = await node.acquire(5.0)
            await node.fail(held, ErrorCode.STORAGE_FULL)
        assert await node.acquire() == [], "it rests after the second failure"
        (held,) = await node.acquire(5.0)
        assert held.epoch == 3

    play(scenario)
