"""A job from submission to report, over real mTLS."""

import json

import jsonschema
from tests.coordinator.jobs.fleet_play import Play, ended, join, working
from tests.coordinator.jobs.scripted_node import job_spec, submit

from quantfleet_coordinator.testing import LocalFleet
from quantfleet_domain.reporting.schema import report_schema
from quantfleet_protos.v1 import control_pb2
from quantfleet_wire.transfer import fetch_bytes


def test_a_job_ends_with_a_report_of_the_schema(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        job = await submit(fleet, job_spec())
        async with working(node):
            found = await ended(fleet, job)
        assert found.job.state == "succeeded", [t for t in found.tasks if t.state != "succeeded"]
        answer = await fleet.control.GetReport(control_pb2.GetReportRequest(job_id=job))
        report = json.loads(await fetch_bytes(fleet.artifacts, answer.report.digest))
        jsonschema.validate(report, report_schema())
        assert report["calibration"]["samples"] == 12
        assert {(r["precision"], r["accuracy"][0]["samples"]) for r in report["results"]} == {
            ("fp32", 12),
            ("int8", 12),
        }
        assert {file.name for file in answer.files} >= {"net/scales.json", "net/onnx-u8s8/net.onnx"}

    play(scenario)
