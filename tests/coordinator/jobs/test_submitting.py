"""What users ask of a coordinator: submit, explain, cancel, retry, watch."""

import asyncio
from dataclasses import replace

from tests.coordinator.jobs.fleet_play import Play, ended, join, refused, state, until, working
from tests.coordinator.jobs.scripted_node import SAMPLES, TARGET, device, job_spec, ref, submit

from quantfleet_coordinator.testing import LocalFleet
from quantfleet_domain.errors import ErrorCode
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.spec import DataSet, EvaluateSpec, FileRef
from quantfleet_protos.v1 import control_pb2, job_pb2
from quantfleet_wire.codec import encode
from quantfleet_wire.content import digest_bytes
from quantfleet_wire.transfer import fetch_bytes, upload


def test_a_request_gives_one_job_however_often_it_is_sent(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        first = await submit(fleet, job_spec(), "one")
        again = await asyncio.gather(*(submit(fleet, job_spec(), "one") for _ in range(4)))
        together = await asyncio.gather(*(submit(fleet, job_spec(), "two") for _ in range(4)))
        assert set(again) == {first}
        assert len({first, *together}) == 2
        await refused(submit(fleet, job_spec(name="other"), "one"), ErrorCode.REQUEST_REUSED)
        nameless = control_pb2.SubmitJobRequest(spec=encode(job_spec(), job_pb2.JobSpec))
        await refused(fleet.control.SubmitJob(nameless), ErrorCode.USAGE)
        assert len((await fleet.control.ListJobs(control_pb2.ListJobsRequest())).jobs) == 2

    play(scenario)


def test_a_job_whose_files_are_not_stored_is_refused(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        request = control_pb2.SubmitJobRequest(request_id="a", spec=encode(job_spec(), job_pb2.JobSpec))
        await refused(fleet.control.SubmitJob(request), ErrorCode.ARTIFACT_NOT_FOUND)
        model = replace(job_spec().models[0], files=(FileRef("net.onnx", "0" * 64, 1),))
        await refused(submit(fleet, job_spec(models=(model,))), ErrorCode.ARTIFACT_NOT_FOUND)
        await submit(fleet, job_spec())

    play(scenario)


def test_a_job_is_refused_until_its_masks_and_annotations_are_stored(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        mask, boxes = b"a mask", b"some boxes"
        row = Sample("0.bin", digest_bytes(SAMPLES[0]), len(SAMPLES[0]), mask=ref("m.png", mask))
        content = Manifest((row,)).to_json()
        data = DataSet(ref("masks.json", content), 1, ref("boxes.json", boxes))
        spec = job_spec()
        model = replace(spec.models[0], calibration=None, evaluate=EvaluateSpec(data, ("map",), 1))
        spec = replace(spec, models=(model,))
        for missing in (content, mask, boxes):
            await refused(submit(fleet, spec), ErrorCode.ARTIFACT_NOT_FOUND)
            await upload(fleet.artifacts, missing, digest_bytes(missing))
        await submit(fleet, spec)

    play(scenario)


def test_a_dry_run_leaves_nothing(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        assert await submit(fleet, job_spec(), dry_run=True) == ""
        assert not (await fleet.control.ListJobs(control_pb2.ListJobsRequest())).jobs
        pool = replace(TARGET, pool="nowhere")
        await refused(submit(fleet, job_spec(targets=(pool,)), dry_run=True), ErrorCode.POOL_NOT_FOUND)
        await refused(submit(fleet, job_spec(name="a\0b")), ErrorCode.JOB_INVALID)

    play(scenario)


def test_a_target_that_no_node_serves_is_absent_from_a_partial_report(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        targets = (TARGET, replace(TARGET, pool="arm"))
        await refused(submit(fleet, job_spec(targets=targets), must_be_servable=True), ErrorCode.TARGET_UNSERVABLE)
        node = await join(fleet, "n1")
        error = await refused(
            submit(fleet, job_spec(targets=targets), must_be_servable=True), ErrorCode.TARGET_UNSERVABLE
        )
        assert "architecture is x86_64" in error.what
        job = await submit(fleet, job_spec(targets=targets, patience_s=0.0))
        async with working(node):
            found = await ended(fleet, job)
        assert found.job.state == "partial"
        answer = await fleet.control.GetReport(control_pb2.GetReportRequest(job_id=job))
        report = (await fetch_bytes(fleet.artifacts, answer.report.digest)).decode()
        assert "no live device can serve it" in report
        failures = {t.failure.code for t in found.tasks if t.state == "failed"}
        assert failures == {"target-unservable"}

    play(scenario, lease_s=2.0)


def test_an_engine_that_prepares_a_model_and_is_missing_is_told_before_any_work_with_how_to_install_it(
    play: Play,
) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        there, missing = device().engines
        missing = replace(
            missing, available=False, missing="paddlepaddle is not installed: pip install quantfleet[paddle]"
        )
        await join(fleet, "n1", [replace(device(), engines=(there, missing))])
        paddle = replace(job_spec().models[0], format="paddle")  # measured by ONNX Runtime, read by Paddle
        error = await refused(
            submit(fleet, job_spec(models=(paddle,)), must_be_servable=True), ErrorCode.TARGET_UNSERVABLE
        )
        assert "net/inspect" in error.what
        assert "pip install quantfleet[paddle]" in error.what
        job = await submit(fleet, job_spec(models=(paddle,)))
        explained = await fleet.control.ExplainJob(control_pb2.ExplainJobRequest(job_id=job))
        reasons = {item.task_id: item.reason for item in explained.waiting}
        assert "pip install quantfleet[paddle]" in reasons["net/inspect"]

    play(scenario)


def test_patience_is_not_used_up_by_a_busy_device(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        job = await submit(fleet, job_spec(shards=6, evaluate=False, targets=(), patience_s=0.0))
        await node.complete((await node.acquire())[0])
        held = await node.acquire(5.0)
        for _ in range(6):
            await asyncio.sleep(0.05)
            await node.heartbeat(held)
        for shard in held:
            await node.complete(shard)
        async with working(node):
            assert (await ended(fleet, job)).job.state == "succeeded"

    play(scenario, lease_s=2.0)


def test_explain_says_what_each_task_waits_for(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        job = await submit(fleet, job_spec())

        async def reasons() -> dict[str, str]:
            answer = await fleet.control.ExplainJob(control_pb2.ExplainJobRequest(job_id=job[:6]))
            return {waiting.task_id: waiting.reason for waiting in answer.waiting}

        assert "no live node" in (await reasons())["net/inspect"]
        assert (await reasons())["report"].endswith("more")
        node = await join(fleet, "n1")
        assert "next in line for n1/cpu:0" in (await reasons())["net/inspect"]
        await node.heartbeat(await node.acquire(), "reading")
        assert (await reasons())["net/inspect"] == "n1/cpu:0 is at work on it: reading"
        assert (await reasons())["net/calibrate/0"] == "it comes after net/inspect, net/recall"

    play(scenario)


def test_a_cancelled_job_takes_its_tasks_back_and_can_be_tried_again(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        job = await submit(fleet, job_spec())
        held = await node.acquire()
        named = control_pb2.CancelJobRequest(job_id=job)
        assert (await fleet.control.CancelJob(named)).job.state == "cancelled"
        assert (await fleet.control.CancelJob(named)).job.state == "cancelled"
        assert await node.heartbeat(held) == ["net/inspect"]
        await refused(node.complete(held[0]), ErrorCode.LEASE_STALE)
        await node.heartbeat([])
        assert await node.acquire() == []
        await refused(fleet.control.GetReport(control_pb2.GetReportRequest(job_id=job)), ErrorCode.REPORT_NOT_READY)
        again = control_pb2.RetryJobRequest(job_id=job)
        assert (await fleet.control.RetryJob(again)).job.state == "running"
        await refused(fleet.control.RetryJob(again), ErrorCode.JOB_NOT_RETRYABLE)
        async with working(node):
            assert (await ended(fleet, job)).job.state == "succeeded"

    play(scenario)


def test_a_retried_job_has_no_report_until_it_has_a_new_one(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        job = await submit(fleet, job_spec(targets=(TARGET, replace(TARGET, pool="arm")), patience_s=0.0))
        async with working(node):
            assert (await ended(fleet, job)).job.state == "partial"
        await fleet.control.CordonNode(control_pb2.CordonNodeRequest(node="n1"))
        named = control_pb2.GetReportRequest(job_id=job)
        old = (await fleet.control.GetReport(named)).report.digest
        arm = device(machine="arm")
        await join(fleet, "n2", [replace(arm, hardware=replace(arm.hardware, architecture="aarch64"))])
        await fleet.control.RetryJob(control_pb2.RetryJobRequest(job_id=job))
        await refused(fleet.control.GetReport(named), ErrorCode.REPORT_NOT_READY)
        later = await join(fleet, "n2", [replace(arm, hardware=replace(arm.hardware, architecture="aarch64"))])
        async with working(later):
            assert (await ended(fleet, job)).job.state == "succeeded"
        assert (await fleet.control.GetReport(named)).report.digest != old

    play(scenario)


def test_a_watch_resumes_by_number_without_loss_or_repetition(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        job = await submit(fleet, job_spec(shards=12))
        seen: list[tuple[int, str, str]] = []

        async def watch(most: int) -> bool:
            after = seen[-1][0] if seen else 0
            call = fleet.control.WatchJob(control_pb2.WatchJobRequest(job_id=job, after=after))
            async for event in call:
                if event.sequence:
                    seen.append((event.sequence, event.task.task_id, event.task.state))
                    most -= 1
                if most == 0:
                    return False
            return True

        async with working(node), asyncio.timeout(20):
            while not await watch(3 + len(seen) % 7):
                pass
        assert [number for number, _, _ in seen] == list(range(1, len(seen) + 1))
        before = list(seen)
        seen.clear()
        assert await watch(100_000)
        assert seen == before
        assert (await state(fleet, job, "report")).state == "succeeded"

    play(scenario)


def test_a_job_cancelled_in_the_middle_of_a_merge_stays_cancelled(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        jobs = [await submit(fleet, job_spec(shards=1, evaluate=False, targets=())) for _ in range(6)]
        async with working(node):
            for job in jobs:
                await until(fleet, job, _merge_has_begun)
                await fleet.control.CancelJob(control_pb2.CancelJobRequest(job_id=job))
        for job in jobs:
            found = await ended(fleet, job)
            assert found.job.state in ("cancelled", "succeeded")
            assert {t.state for t in found.tasks} <= {"cancelled", "succeeded"}

    play(scenario)


def _merge_has_begun(found: control_pb2.GetJobResponse) -> bool:
    return all(task.state != "pending" for task in found.tasks if task.task_id == "net/merge")
