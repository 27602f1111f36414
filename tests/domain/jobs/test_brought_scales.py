"""A job that brings its scale table: nothing is calibrated for it, and its samples correct biases alone."""

from dataclasses import replace

import pytest
from tests.domain.jobs.sample_jobs import DATA, TARGET, job_spec, model_spec, results_of

from quantfleet_domain.calibration.correction import CHECKPOINTS
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.assignment import files_of, slices_of, work
from quantfleet_domain.jobs.lifecycle import TaskKind
from quantfleet_domain.jobs.plan import Plan, make_plan
from quantfleet_domain.jobs.settling import settled
from quantfleet_domain.jobs.spec import CalibrationSpec, DataSet, FileRef, JobSpec
from quantfleet_domain.jobs.validation import validate
from quantfleet_domain.jobs.work import CorrectWork, QuantizeWork

SCALES = FileRef("scales.json", "5" * 64, 10)
MAKING = {TaskKind.RECALL, TaskKind.CALIBRATE, TaskKind.MERGE, TaskKind.SCORE, TaskKind.CHOOSE}
ONE_ENGINE = (replace(TARGET, engines=("onnxruntime-cpu",)),)


def brought(data: DataSet | None = None, **fields: object) -> JobSpec:
    calibration = replace(CalibrationSpec(data, "imported", 99.99, 0, scales=SCALES), **fields)
    return settled(job_spec(model_spec(calibration=calibration, targets=ONE_ENGINE)), 2, lambda _: ())


def kinds(plan: Plan) -> set[TaskKind]:
    return {detail.kind for detail in plan.details.values()}


def test_no_task_makes_the_table_and_without_samples_none_corrects_biases() -> None:
    plan = make_plan(brought())
    assert not kinds(plan) & {*MAKING, TaskKind.CORRECT, TaskKind.SETTLE}
    assert {"net/quantize/onnx", "net/benchmark/0/onnxruntime-cpu"} <= plan.details.keys()
    assert next(task.needs for task in plan.tasks if task.id == "net/quantize/onnx") == ("net/inspect",)


def test_with_samples_biases_are_corrected_on_them() -> None:
    spec = brought(DATA)
    plan = make_plan(spec)
    assert not kinds(plan) & MAKING
    settled = [name for name, detail in plan.details.items() if detail.kind is TaskKind.SETTLE]
    assert settled == [f"net/settle/{stage}" for stage in range(CHECKPOINTS + 1)]
    results = results_of(plan)
    parts = [work(spec, d, results) for d in plan.details.values() if d.kind is TaskKind.CORRECT and d.stage == 0]
    slices = [next(iter(slices_of(part)), None) for part in parts]
    assert [(s.manifest, s.first, s.count) for s in slices if s] == [(DATA.manifest, 0, 10), (DATA.manifest, 10, 10)]
    for task in plan.tasks:
        assert len(set(task.needs)) == len(task.needs), task.id
        assert all(need in plan.details for need in task.needs), task.id


def test_every_task_that_needs_the_table_is_given_that_of_the_job() -> None:
    spec = brought(DATA)
    plan = make_plan(spec)
    results = results_of(plan)
    found = [
        work(spec, detail, results)
        for detail in plan.details.values()
        if detail.kind in (TaskKind.CORRECT, TaskKind.QUANTIZE)
    ]
    assert {type(item) for item in found} == {CorrectWork, QuantizeWork}
    assert all(SCALES in files_of(item) for item in found)
    assert SCALES.digest in spec.inputs()


def test_a_model_whose_table_is_brought_is_no_twin_of_one_that_is_calibrated() -> None:
    first = brought(DATA).models[0]
    plan = make_plan(job_spec(first, model_spec("other")))
    assert next(task.after for task in plan.tasks if task.id == "other/recall") == ()


def test_any_calibrator_may_have_made_it_but_without_samples_nothing_is_excluded() -> None:
    validate(brought())
    validate(brought(calibrator="a tool of my own"))
    for spec in (brought(exclude_below_db=12.0), brought(scales=None, calibrator="mse")):
        with pytest.raises(QuantfleetError) as caught:
            validate(spec)
        assert caught.value.code is ErrorCode.JOB_INVALID
