"""A job that brings its scale table, from submission to report: nothing is calibrated, and the report says so."""

import json
from dataclasses import replace
from typing import Any

import jsonschema
from tests.coordinator.jobs.fleet_play import Play, ended, join, refused, working
from tests.coordinator.jobs.scripted_node import DATA, MODEL, job_spec, ref, submit

from quantfleet_coordinator.testing import LocalFleet
from quantfleet_domain.calibration.graph import CalibrationGraph, WeightTensor
from quantfleet_domain.calibration.imported import Origin, imported_table, symmetric
from quantfleet_domain.errors import ErrorCode
from quantfleet_domain.jobs.spec import CalibrationSpec, DataSet, JobSpec
from quantfleet_domain.reporting.schema import report_schema
from quantfleet_protos.v1 import control_pb2
from quantfleet_wire.content import digest_bytes
from quantfleet_wire.transfer import fetch_bytes, upload

GRAPH = CalibrationGraph((), (), ("x", "y"), (WeightTensor("w", 0, (1.0,)),), {}, {}, (), "r" * 64)


def table_of(model: str) -> bytes:
    origin = Origin("tensorrt", "8401-EntropyCalibration2", "5" * 64)
    return imported_table(symmetric({"x": 1.0, "y": 2.0}), GRAPH, (), model=model, origin=origin).to_json()


def brought(table: bytes, data: DataSet | None) -> JobSpec:
    spec = job_spec()
    calibration = CalibrationSpec(data, "imported", 99.99, 2, scales=ref("scales.json", table))
    return replace(spec, models=(replace(spec.models[0], calibration=calibration),))


async def report_of(fleet: LocalFleet, data: DataSet | None) -> tuple[Any, set[str], set[str]]:
    """The report of such a job, the kinds of its tasks, and the names of the files that it hands out."""
    table = table_of(digest_bytes(MODEL))
    await upload(fleet.artifacts, table, digest_bytes(table))
    node = await join(fleet, "n1")
    job = await submit(fleet, brought(table, data))
    async with working(node):
        found = await ended(fleet, job)
    assert found.job.state == "succeeded", [t for t in found.tasks if t.state != "succeeded"]
    answer = await fleet.control.GetReport(control_pb2.GetReportRequest(job_id=job))
    report = json.loads(await fetch_bytes(fleet.artifacts, answer.report.digest))
    jsonschema.validate(report, report_schema())
    assert report["calibration"]["scales_sha256"] == digest_bytes(table)
    return report, {task.kind for task in found.tasks}, {file.name for file in answer.files}


def test_without_samples_the_report_says_whose_table_it_is_and_that_no_bias_was_corrected(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        report, kinds, files = await report_of(fleet, None)
        assert kinds == {"inspect", "quantize", "benchmark", "evaluate", "report"}
        found = report["calibration"]
        assert (found["calibrator"], found["samples"], found["shards"], found["seconds"]) == ("imported", 0, 0, None)
        assert found["numerics_class"]["engine_version"] == "8401-EntropyCalibration2"
        assert found["bias_correction"] is None
        assert report["warnings"] == ["net: the job brought its scale table, with no samples to correct biases on"]
        assert {"net/scales.json", "net/onnx-u8s8/net.onnx"} <= files
        assert "net/corrections.json" not in files

    play(scenario)


def test_with_samples_biases_are_corrected_on_them(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        report, kinds, files = await report_of(fleet, DATA)
        assert {"correct", "settle"} <= kinds
        assert not {"recall", "calibrate", "merge"} & kinds
        assert report["calibration"]["bias_correction"]["samples"] == DATA.samples
        assert report["warnings"] == ["net: the job brought its scale table"]
        assert {"net/scales.json", "net/corrections.json"} <= files

    play(scenario)


def test_a_table_of_another_model_is_refused_before_anything_is_run(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        for table, code in ((table_of("7" * 64), ErrorCode.SCALES_INVALID), (b"{}", ErrorCode.SCALES_INVALID)):
            await upload(fleet.artifacts, table, digest_bytes(table))
            await refused(submit(fleet, brought(table, None)), code)
        missing = brought(b"never uploaded", None)
        await refused(submit(fleet, missing), ErrorCode.ARTIFACT_NOT_FOUND)
        assert not (await fleet.control.ListJobs(control_pb2.ListJobsRequest())).jobs

    play(scenario)
