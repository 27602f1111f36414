"""What a job trained is in its report and among its files; what could not be made is told and takes nothing along."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from tests.domain.jobs.sample_jobs import device, job_spec, quantized_in, results_of

from quantfleet_coordinator.jobs.entry import JobEntry
from quantfleet_coordinator.reporting import write_report
from quantfleet_coordinator.servicers.delivery import delivered_files
from quantfleet_coordinator.store.records import JobRecord
from quantfleet_domain.errors import ErrorCode
from quantfleet_domain.jobs.lifecycle import Failure, Job, TaskState
from quantfleet_domain.jobs.spec import FileRef, JobSpec
from quantfleet_domain.jobs.task_results import (
    LossPoint,
    TrainResult,
)
from quantfleet_domain.jobs.work import (
    ModelForm,
    RuntimeForms,
    TrainedForm,
)
from quantfleet_domain.reporting.report import Report
from quantfleet_protos.v1 import job_pb2
from quantfleet_wire.codec import encode


def ref(name: str, digit: int) -> FileRef:
    return FileRef(name, f"{digit:064x}", 1)


def made(digit: int) -> tuple[RuntimeForms, ...]:
    """A quantized model for both runtimes, with the model's own configuration beside it."""
    configuration = ref("inference_cls.yaml", 99)
    onnx = ModelForm("u8s8", (ref("model.onnx", digit), configuration))
    paddle = ModelForm("s8-symmetric", (ref("model.pdmodel", digit + 1), configuration))
    return (RuntimeForms("paddle", (paddle,)), RuntimeForms("onnx", (onnx,)))


FIRST = TrainResult(
    method="distill",
    iterations=10,
    checkpoint=ref("checkpoint", 11),
    losses=(LossPoint(5, 2.5), LossPoint(10, 1.5)),
    metric="top1",
    value=50.0,
    best=TrainedForm(10, 50.0, made(20)),
    seconds=3.0,
)
SECOND = replace(
    FIRST, iterations=20, checkpoint=ref("checkpoint", 12), losses=(LossPoint(20, 1.0),), value=40.0, seconds=4.0
)
LAST = replace(
    SECOND,
    iterations=25,
    checkpoint=ref("checkpoint", 13),
    losses=(LossPoint(25, 0.5),),
    best=TrainedForm(25, 55.0, made(30)),
    value=55.0,
    seconds=2.0,
)


def entry_of(spec: JobSpec, trained: Mapping[str, TrainResult], failed: str = "") -> JobEntry:
    """The job with these results of its trainings, all else done; the tasks whose names begin with `failed` failed."""
    record = JobRecord("j", "r", "d", "test", "u", encode(spec, job_pb2.JobSpec).SerializeToString(), "running", 0, 0)
    entry = JobEntry.create(record, {})
    failure = Failure(ErrorCode.ENGINE_FAILED, "the loss is nan", "give a smaller rate")
    tasks = {
        name: replace(task, state=TaskState.FAILED, failure=failure)
        if failed and name.startswith(failed)
        else replace(task, state=TaskState.SUCCEEDED, node="n1", device="cpu:0")
        for name, task in entry.job.tasks.items()
    }
    entry.job = Job("j", tasks)
    entry.results.update(trained)
    return entry


def report_of(trained: Mapping[str, TrainResult], failed: str = "") -> Report:
    entry = entry_of(job_spec(quantized_in("static", "distill")), trained, failed)
    return write_report(entry, {("n1", "cpu:0"): device()}, lambda _: b"")


CHAIN = {"net/train/distill/0": FIRST, "net/train/distill/1": SECOND, "net/train/distill/2": LAST}


def test_a_training_is_reported_as_one_over_all_its_intervals() -> None:
    (found,) = report_of(CHAIN).training
    assert (found.model, found.method, found.iterations, found.intervals, found.samples) == (
        "net",
        "distill",
        25,
        3,
        20,
    )
    assert found.seconds == 9.0
    assert found.losses == {"5": 2.5, "10": 1.5, "20": 1.0, "25": 0.5}
    assert (found.best_iteration, found.metric, found.best_value) == (25, "top1", 55.0)
    assert found.checkpoint_sha256 == LAST.checkpoint.digest


def test_of_a_training_that_was_not_validated_the_last_model_is_taken_by_no_metric() -> None:
    blind = replace(LAST, metric="", value=None, best=TrainedForm(25, None, made(30)))
    (found,) = report_of({**CHAIN, "net/train/distill/2": blind}).training
    assert (found.best_iteration, found.metric, found.best_value) == (25, None, None)


def test_a_training_that_never_came_to_a_checkpoint_is_a_warning_and_no_training() -> None:
    report = report_of({}, failed="net/train/distill/0")
    assert report.training == ()
    assert "net/train/distill/0 failed: the loss is nan (give a smaller rate)" in report.warnings


def test_a_training_that_failed_half_way_is_reported_up_to_its_last_checkpoint() -> None:
    report = report_of({"net/train/distill/0": FIRST}, failed="net/train/distill/1")
    assert (report.training[0].iterations, report.training[0].intervals) == (10, 1)
    assert any(warning.startswith("net/train/distill/1 failed") for warning in report.warnings)


@pytest.mark.parametrize("maker", ["net/quantize/paddle", "net/quantize/onnx"])
def test_a_quantizer_that_failed_is_a_warning(maker: str) -> None:
    assert f"{maker} failed: the loss is nan (give a smaller rate)" in report_of(CHAIN, failed=maker).warnings


def test_a_finished_training_hands_over_its_best_models_and_its_last_checkpoint() -> None:
    entry = entry_of(job_spec(quantized_in("distill", calibration=None)), CHAIN)
    assert {file.name: file.digest for file in delivered_files(entry)} == {
        "net/distill/checkpoint": LAST.checkpoint.digest,
        "net/distill/onnx-u8s8/model.onnx": f"{30:064x}",
        "net/distill/onnx-u8s8/inference_cls.yaml": f"{99:064x}",
        "net/distill/paddle-s8-symmetric/model.pdmodel": f"{31:064x}",
        "net/distill/paddle-s8-symmetric/inference_cls.yaml": f"{99:064x}",
    }


def test_a_training_that_stopped_half_way_hands_over_what_it_came_to() -> None:
    entry = entry_of(job_spec(quantized_in("distill", calibration=None)), {"net/train/distill/0": FIRST})
    files = {file.name: file.digest for file in delivered_files(entry)}
    assert files["net/distill/checkpoint"] == FIRST.checkpoint.digest
    assert files["net/distill/onnx-u8s8/model.onnx"] == f"{20:064x}"


def test_models_of_several_quantizations_lie_in_folders_of_their_own() -> None:
    entry = entry_of(job_spec(quantized_in("static", "qat", "distill")), {})
    entry.results.update(results_of(entry.plan))
    names = [file.name for file in delivered_files(entry)]
    assert len(names) == len(set(names))
    for folder in ("onnx-u8s8", "paddle-u8s8", "qat/onnx-", "qat/paddle-", "distill/onnx-", "distill/paddle-"):
        assert any(name.startswith(f"net/{folder}/") for name in names), folder


def test_a_given_model_is_named_by_its_content_beside_the_model_as_submitted() -> None:
    spec = job_spec(quantized_in("given"))
    (model,) = write_report(entry_of(spec, {}), {}, lambda _: b"").models
    (submitted,) = spec.models
    assert submitted.given is not None
    assert model.sha256 != model.given_sha256 == submitted.given.files[0].digest
