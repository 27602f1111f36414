"""A job of which a part fails: the reason is told, the rest is measured, and nothing that was done is done again."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tests.system.conftest import write_job
from tests.system.fleet import RunningFleet, quantfleet, until
from tests.system.test_crashes import engine_processes
from tests.worker.paddle.conftest import SHAPE, export, network, pictures

from quantfleet_worker.models.paddle_program import old_programs
from quantfleet_worker.training.slim import load_slim, quiet

FAILED = 1
ACT = """
Distillation: {alpha: 1.0, loss: l2}
QuantAware: {use_pact: false}
TrainConfig:
  {train_iter: 3, eval_iter: 1, logging_iter: 1, learning_rate: 0.0001, optimizer_builder: {optimizer: {type: Adam}}}
"""


@pytest.fixture(scope="module")
def paddle_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Paddle model in `float/`, `dynamic/` as PaddleSlim quantizes it dynamically, samples, and a training's file."""
    folder = tmp_path_factory.mktemp("paddle")
    export(network(), folder / "float", (None, *SHAPE[1:]), pir=False)
    names = {"model_filename": "inference.pdmodel", "params_filename": "inference.pdiparams"}
    with quiet(), old_programs():
        load_slim("quant").quant_post_dynamic(
            str(folder / "float"), str(folder / "dynamic"), **names, save_model_filename=names["model_filename"],
            save_params_filename=names["params_filename"], quantizable_op_type=["conv2d", "depthwise_conv2d"],
        )  # fmt: skip
    (folder / "samples").mkdir()
    for index, picture in enumerate(pictures(8)):
        np.save(folder / "samples" / f"{index}.npy", picture)
    (folder / "act.yaml").write_text(ACT)
    return folder


@pytest.fixture(autouse=True)
def everyone_back(fleet: RunningFleet) -> Iterator[None]:
    yield
    for name, cores in (("left", "0"), ("right", "1")):
        if name not in fleet.workers:
            fleet.start_worker(name, cores)
    fleet.wait_live("left", "right")


def cells(report: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(row["engine"], row["precision"], row["quantization"]) for row in report["results"]}


def kill_child(fleet: RunningFleet, job: str, task: str, number: signal.Signals, *, at_work: bool) -> None:
    """Send a signal to the engine's process of a task's next attempt: as it starts, or once it is `at_work`."""

    def attempt() -> dict[str, Any] | None:
        leased = (t for t in fleet.status(job)["tasks"] if t["task_id"] == task and t["state"] == "leased")
        return next((t for t in leased if t["doing"] or not at_work), None)

    found = until(attempt, f"{task} is at work")
    worker = psutil.Process(fleet.workers[found["node"]].pid)
    for process in until(lambda: engine_processes(worker), "its engine process runs"):
        os.kill(process.pid, number)
    until(lambda: (attempt() or {"epoch": 0})["epoch"] != found["epoch"], f"{task} crashed")


def test_dynamic_quantization_is_not_applicable_where_the_engine_computes_in_float(
    fleet: RunningFleet, material: Path
) -> None:
    targets = "[{engines: [onnxruntime-cpu, openvino-cpu]}]"
    job = material / "dynamic.yaml"
    job.write_text(
        "apiVersion: quantfleet/v1\nkind: Job\nname: dynamic\nmodel: {path: net.onnx}\nquantization: [dynamic]\n"
        f"targets: {targets}\nbenchmark: {{modes: [runtime], warmup: 2, repeat: 20}}\n"
    )
    identifier = fleet.submit(job)
    assert quantfleet("job", "watch", identifier, *fleet.admin, check=False).returncode == 0
    report = fleet.report(identifier)
    floats = {(engine, "fp32", "none") for engine in ("onnxruntime-cpu", "openvino-cpu")}
    assert cells(report) == floats | {("onnxruntime-cpu", "int8", "dynamic")}
    (gap,) = report["absent"]
    assert (gap["engine"], gap["quantization"], gap["applicable"]) == ("openvino-cpu", "dynamic", False)
    assert "in float" in gap["reason"]


def test_an_engine_that_aborts_is_told_with_its_last_words_and_the_others_figures_stand(
    fleet: RunningFleet, material: Path
) -> None:
    targets = "[{engines: [onnxruntime-cpu, openvino-cpu], precisions: [fp32]}]"
    job = write_job(material, "aborts", targets=targets, benchmark="{modes: [runtime], warmup: 2, repeat: 5000}")
    identifier = fleet.submit(job)
    for number in (signal.SIGABRT, signal.SIGSEGV):  # a crash is tried again once
        kill_child(fleet, identifier, "net/benchmark/0/openvino-cpu", number, at_work=True)
    assert fleet.wait_ended(identifier) == "partial"
    assert quantfleet("job", "watch", identifier, *fleet.admin, check=False).returncode == FAILED
    report = fleet.report(identifier)
    assert cells(report) == {("onnxruntime-cpu", "fp32", "none")}
    (gap,) = report["absent"]
    assert (gap["engine"], gap["applicable"]) == ("openvino-cpu", True)
    assert "SIGSEGV" in gap["reason"]
    log = quantfleet("job", "logs", identifier, *fleet.admin).stdout
    assert "Fatal Python error: Aborted" in log
    assert "Fatal Python error: Segmentation fault" in log


def test_what_only_paddle_lite_runs_is_refused_with_that_reason_and_the_others_are_measured(
    fleet: RunningFleet, paddle_models: Path, material: Path
) -> None:
    job = paddle_models / "lite.yaml"
    job.write_text(
        "apiVersion: quantfleet/v1\nkind: Job\nname: lite\nmodels:\n"
        "  - {path: dynamic/quantized_model, name: dynamic}\n"
        "  - {path: float, quantization: [{method: given, path: dynamic/quantized_model}]}\n"
        f"  - {{path: {material / 'net.onnx'}}}\n"
        "targets: [{threads: [1]}]\nbenchmark: {modes: [runtime], warmup: 2, repeat: 20}\n"
    )
    identifier = fleet.submit(job)
    assert fleet.wait_ended(identifier) == "partial"
    report = fleet.report(identifier)
    measured = {(row["model"], row["engine"], row["precision"]) for row in report["results"]}
    assert measured == {
        *(("float", engine, "fp32") for engine in ("onnxruntime-cpu", "openvino-cpu", "paddle-cpu")),
        *(("net", engine, "fp32") for engine in ("onnxruntime-cpu", "openvino-cpu")),
    }
    reasons = [gap["reason"] for gap in report["absent"] if gap["engine"] == "paddle-cpu" and gap["applicable"]]
    assert len(reasons) == 2
    assert all("only Paddle Lite runs such a model" in reason for reason in reasons)


def test_a_training_goes_on_from_its_checkpoints_whatever_is_killed_and_ends_with_the_same_bytes(
    fleet: RunningFleet, paddle_models: Path
) -> None:
    def submit(name: str, quantization: str, benchmark: str) -> str:
        job = paddle_models / f"{name}.yaml"
        distill = "{method: distill, config: act.yaml, batch_size: 4, data: {path: samples}}"
        job.write_text(
            f"apiVersion: quantfleet/v1\nkind: Job\nname: {name}\nmodel: {{path: float}}\n"
            "calibration: {data: {path: samples}, calibrator: absmax, bias_correction: false}\n"
            f"quantization: [{quantization}{distill}]\ntargets: [{{engines: [paddle-cpu]}}]\nbenchmark: {benchmark}\n"
        )
        return fleet.submit(job)

    def epochs(job: str) -> list[int]:
        tasks = {task["task_id"]: task["epoch"] for task in fleet.status(job)["tasks"]}
        return [tasks[f"float/train/distill/{interval}"] for interval in range(3)]

    calm = submit("calm", "", "{modes: []}")
    assert fleet.wait_ended(calm) == "succeeded"
    job = submit("disturbed", "static, ", "{modes: [runtime], warmup: 2, repeat: 20}")

    def at_interval_1() -> str | None:
        leased = fleet.tasks(job, "train", "leased")
        return leased[0]["node"] if leased and leased[0]["task_id"].endswith("/1") else None

    fleet.kill(until(at_interval_1, "interval 1 is leased"))
    for _ in range(2):  # a crash is tried again once
        kill_child(fleet, job, "float/train/distill/2", signal.SIGSEGV, at_work=False)
    assert fleet.wait_ended(job) == "partial"
    assert epochs(job) == [1, 2, 2]
    report = fleet.report(job)
    assert cells(report) == {("paddle-cpu", "fp32", "none"), ("paddle-cpu", "int8", "static")}
    assert [(gap["quantization"], gap["applicable"]) for gap in report["absent"]] == [("distill", True)]
    assert any("float/train/distill/2 failed: " in warning and "SIGSEGV" in warning for warning in report["warnings"])
    assert [training["intervals"] for training in report["training"]] == [2]

    quantfleet("job", "retry", job, *fleet.admin)
    assert fleet.wait_ended(job) == "succeeded"
    assert epochs(job)[:2] == [1, 2], "the intervals that were done are not run again"
    (whole,), (undisturbed,) = (fleet.report(found)["training"] for found in (job, calm))
    assert whole["checkpoint_sha256"] == undisturbed["checkpoint_sha256"]
    assert whole["losses"] == undisturbed["losses"]
    assert ("paddle-cpu", "int8", "distill") in cells(fleet.report(job))
