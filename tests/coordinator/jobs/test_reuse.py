"""What one job counted serves the next: no sample is run twice in one numerics class."""

from dataclasses import replace

from tests.coordinator.jobs.fleet_play import Play, ended, join, working
from tests.coordinator.jobs.scripted_node import SAMPLES, ScriptedNode, job_spec, ref, submit

from quantfleet_coordinator.testing import LocalFleet
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.spec import CalibrationSpec, DataSet, JobSpec
from quantfleet_protos.v1 import control_pb2
from quantfleet_wire.content import digest_bytes
from quantfleet_wire.transfer import fetch_bytes, upload


def manifest_of(indices: range) -> bytes:
    samples = (Sample(f"{i}.bin", digest_bytes(SAMPLES[i]), len(SAMPLES[i])) for i in indices)
    return Manifest(tuple(samples)).to_json()


def calibrating(manifest: bytes, samples: int, calibrator: str = "absmax", *, reuse: bool = True) -> JobSpec:
    spec = job_spec(evaluate=False, targets=())
    data = DataSet(ref("manifest.json", manifest), samples)
    calibration = CalibrationSpec(data, calibrator, 99.99, 2, reuse=reuse)
    return replace(spec, models=(replace(spec.models[0], calibration=calibration),))


async def shards_run(fleet: LocalFleet, node: ScriptedNode, spec: JobSpec) -> int:
    """How many calibration shards a node was given for a job."""
    before = len(node.done)
    job = await submit(fleet, spec)
    async with working(node):
        assert (await ended(fleet, job)).job.state == "succeeded"
    return sum("/calibrate/" in task for task, _ in node.done[before:])


def test_another_calibrator_on_the_same_data_runs_no_inference(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        manifest = manifest_of(range(12))
        await upload(fleet.artifacts, manifest, digest_bytes(manifest))
        assert await shards_run(fleet, node, calibrating(manifest, 12)) == 2
        assert await shards_run(fleet, node, calibrating(manifest, 12, "entropy")) == 0
        assert await shards_run(fleet, node, calibrating(manifest, 12, "entropy", reuse=False)) == 2

    play(scenario)


def test_more_samples_calibrate_only_those_wherever_they_stand(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        first, all_of_them = manifest_of(range(8, 2, -1)), manifest_of(range(12))
        for manifest in (first, all_of_them):
            await upload(fleet.artifacts, manifest, digest_bytes(manifest))
        assert await shards_run(fleet, node, calibrating(first, 6)) == 2
        job = await submit(fleet, calibrating(all_of_them, 12))
        async with working(node):
            found = await ended(fleet, job)
        assert found.job.state == "succeeded"
        report = (await fleet.control.GetReport(control_pb2.GetReportRequest(job_id=job))).report
        assert b'"recalled": 6' in await fetch_bytes(fleet.artifacts, report.digest)

    play(scenario)


def test_what_was_reused_survives_a_restart(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        assert await shards_run(fleet, node, job_spec(evaluate=False, targets=(), reuse=True)) == 3
        await fleet.restart()
        node = await join(fleet, "n2")
        assert await shards_run(fleet, node, job_spec(evaluate=False, targets=(), reuse=True)) == 0

    play(scenario)
