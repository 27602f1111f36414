"""From a job's results to its report: which figures it carries, and what it warns of."""

from collections.abc import Mapping
from dataclasses import replace

from tests.coordinator.jobs.scripted_node import SAMPLES, SHAPES, device, job_spec, ref
from tests.domain.jobs import sample_jobs

from quantfleet_coordinator.absences import absences
from quantfleet_coordinator.jobs.entry import JobEntry
from quantfleet_coordinator.nodes import Devices
from quantfleet_coordinator.report_warnings import warnings
from quantfleet_coordinator.reporting import write_report
from quantfleet_coordinator.servicers.delivery import delivered_files
from quantfleet_coordinator.store.records import JobRecord
from quantfleet_domain.errors import ErrorCode
from quantfleet_domain.hardware.facts import DeviceFacts, Package
from quantfleet_domain.jobs.lifecycle import Failure, Job, TaskState
from quantfleet_domain.jobs.measured import (
    BenchmarkResult,
    ClassOutcome,
    EvaluateResult,
    Measured,
    Ratio,
)
from quantfleet_domain.jobs.plan import shard_of
from quantfleet_domain.jobs.task_results import QuantizeResult, Result
from quantfleet_domain.jobs.work import Absence, ModelForm
from quantfleet_domain.measurement.latency import summarize
from quantfleet_domain.measurement.quiet import Conditions
from quantfleet_domain.reporting.markdown import to_markdown
from quantfleet_domain.reporting.report import Report
from quantfleet_protos.v1 import job_pb2
from quantfleet_wire.codec import encode

BENCHMARK = "net/benchmark/0/onnxruntime-cpu"


def row(precision: str, form: str = "", int8_nodes: int = 0) -> Measured:
    return Measured(
        precision=precision,
        quantization="static" if precision == "int8" else "none",
        form=form,
        mode="runtime",
        threads=1,
        batch=1,
        latency=summarize([[1_000_000, 1_100_000]]),
        speedup=None if precision == "fp32" else Ratio(1.0, 0.9, 1.1),
        quiet=True,
        noise=(),
        conditions=Conditions(),
        settings=(),
        int8_nodes=int8_nodes,
        quantizable_nodes=3,
        fallbacks=(),
        model_bytes=7,
        input_shapes=SHAPES,
    )


def timed(*rows: Measured, absent: tuple[Absence, ...] = ()) -> BenchmarkResult:
    samples = ref("samples.json", b"samples")
    return BenchmarkResult("onnxruntime-cpu", "1.0", "cpu:0", 1.8e9, 1, 10, 1, rows, absent, samples)


def report_of(
    benchmark: BenchmarkResult,
    forms: tuple[str, str],
    version: str = "1.0",
    facts: DeviceFacts | None = None,
    failed: str = "",
) -> Report:
    """The report of a job whose two INT8 evaluation shards ran in these forms, or whose tasks named so `failed`."""
    entry, devices = entry_of(benchmark, forms, version, facts, failed)
    return write_report(entry, devices, lambda _: b"")


def entry_of(
    benchmark: BenchmarkResult,
    forms: tuple[str, str],
    version: str = "1.0",
    facts: DeviceFacts | None = None,
    failed: str = "",
) -> tuple[JobEntry, Devices]:
    """That job, and its devices."""
    spec = job_spec(shards=1)
    record = JobRecord("j", "r", "d", "test", "u", encode(spec, job_pb2.JobSpec).SerializeToString(), "running", 0, 0)
    entry = JobEntry.create(record, {})
    done = {
        name: replace(task, state=TaskState.SUCCEEDED, node="n1", device="cpu:0")
        for name, task in entry.job.tasks.items()
    }
    refused = Failure(ErrorCode.MODEL_UNSUPPORTED, "the engine refuses it", "give another")
    for number, name in enumerate(name for name in done if failed and failed in name):
        done[name] = replace(done[name], state=TaskState.FAILED, node=f"n{number}", failure=refused)
    entry.job = Job("j", done)
    results: dict[str, Result] = {BENCHMARK: benchmark}
    for name, detail in entry.plan.details.items():
        if "/evaluate/" in name:
            form = forms[int(name[-1])] if detail.precision == "int8" else ""
            first, count = shard_of(len(SAMPLES), detail.shard, detail.shards)
            labels = (0,) * count
            kind = "static" if detail.precision == "int8" else "none"
            best = (True,) * count
            outcome = ClassOutcome(labels, labels, best)
            results[name] = EvaluateResult("onnxruntime-cpu", version, detail.precision, kind, form, first, outcome)
    entry.results.update({name: result for name, result in results.items() if not failed or failed not in name})
    return entry, {("n1", "cpu:0"): facts or device()}


def accuracies(report: Report) -> Mapping[str, float]:
    return {r.precision: figure.value for r in report.results if (figure := r.accuracy_of("top1"))}


def test_an_accuracy_stays_where_every_latency_was_too_noisy_to_keep() -> None:
    gap = Absence("fp32", "none", "runtime", 1, 1, "noisy", applicable=True)
    nothing_kept = timed(absent=(gap, replace(gap, precision="int8")))
    assert accuracies(report_of(nothing_kept, ("u8s8", "u8s8"))) == {"fp32": 100.0, "int8": 100.0}


def test_an_accuracy_of_another_form_than_was_timed_is_told() -> None:
    benchmark = timed(row("fp32"), row("int8", "u8s8", 3))
    assert report_of(benchmark, ("u8s8", "u8s8")).warnings == ()
    (other,) = report_of(benchmark, ("u8s8-paired", "u8s8-paired")).warnings
    assert "u8s8 of 1.0" in other
    assert "u8s8-paired of 1.0" in other
    (mixed,) = report_of(benchmark, ("u8s8", "u8s8-paired")).warnings
    assert "different kinds" in mixed


def test_nodes_that_an_engine_does_not_count_are_not_called_none() -> None:
    unseen = replace(row("int8", "s8s8"), quantizable_nodes=0, fallbacks=("it does not show its kernels",))
    report = report_of(timed(row("fp32"), unseen), ("s8s8", "s8s8"))
    int8 = next(r for r in report.results if r.precision == "int8")
    assert (int8.int8_nodes, int8.quantizable_nodes) == (None, None)
    assert "| — | — | it does not show its kernels |" in to_markdown(report)


def test_an_accuracy_of_another_gpu_than_was_timed_is_told() -> None:
    entry, _ = entry_of(timed(row("fp32"), row("int8", "s8s8", 3)), ("s8s8", "s8s8"))
    names = {name: "cuda:0" if "/benchmark/" in name else "cuda:1" for name in entry.job.tasks}
    entry.job = Job("j", {name: replace(task, device=names[name]) for name, task in entry.job.tasks.items()})
    other = replace(sample_jobs.T4, name="NVIDIA L4")
    both = {("n1", "cuda:0"): sample_jobs.gpu(), ("n1", "cuda:1"): replace(sample_jobs.gpu("cuda:1"), gpu=other)}
    (warning,) = warnings(entry, both)
    assert "s8s8 of 1.0 on Tesla T4" in warning
    assert "s8s8 of 1.0 on NVIDIA L4" in warning
    assert tuple(warnings(entry, both | {("n1", "cuda:1"): sample_jobs.gpu("cuda:1")})) == ()


def test_an_int8_model_of_which_nothing_ran_in_int8_is_told() -> None:
    (warning,) = report_of(timed(row("fp32"), row("int8", "u8s8", 0)), ("u8s8", "u8s8")).warnings
    assert "in INT8" in warning


def test_every_version_of_an_engine_that_had_a_part_is_named() -> None:
    benchmark = timed(row("fp32"), row("int8", "u8s8", 3))
    assert report_of(benchmark, ("u8s8", "u8s8"), "1.1").versions["onnxruntime-cpu"] == "1.0, 1.1"


def test_the_versions_name_the_software_of_every_node_that_took_part() -> None:
    facts = replace(device(), software=(Package("numpy", "2.4.6"), Package("python", "3.11.7")))
    with_software = report_of(timed(row("fp32")), ("u8s8", "u8s8"), facts=facts)
    assert with_software.versions["numpy"] == "2.4.6"
    assert with_software.versions["python"] == "3.11.7"


def test_what_an_engine_refuses_on_every_node_is_one_absence() -> None:
    gap = Absence("int8", "static", "runtime", 1, 1, "the engine refuses it", applicable=True)
    refused = report_of(timed(row("fp32"), absent=(gap,)), ("u8s8", "u8s8"), failed="evaluate/0/onnxruntime-cpu/int8")
    assert [(item.precision, item.quantization, item.reason) for item in refused.absent] == [
        ("int8", "static", "the engine refuses it")
    ]
    unmeasured = report_of(timed(), ("u8s8", "u8s8"), failed="/onnxruntime-cpu")
    assert [(item.precision, item.quantization) for item in unmeasured.absent] == [("fp32", None), ("int8", "static")]


def test_a_quantization_that_was_not_reached_is_told_with_its_reason() -> None:
    gap = Absence("int8", "static", "", 0, 0, "its quantized model was not made: see the warnings", applicable=True)
    report = report_of(timed(row("fp32"), absent=(gap,)), ("u8s8", "u8s8"), failed="net/quantize")
    assert any("net/quantize/onnx failed: the engine refuses it" in warning for warning in report.warnings)


def native_job(targets: int) -> JobEntry:
    """A job of static and native INT8 on TensorRT, all of it done."""
    target = replace(sample_jobs.TARGET, engines=("tensorrt",))
    model = sample_jobs.quantized_in("static", "native", targets=(target,) * targets)
    message = encode(sample_jobs.job_spec(model), job_pb2.JobSpec)
    entry = JobEntry.create(JobRecord("j", "r", "d", "test", "u", message.SerializeToString(), "running", 0, 0), {})
    done = {name: replace(task, state=TaskState.SUCCEEDED) for name, task in entry.job.tasks.items()}
    entry.job = Job("j", done)
    return entry


def test_an_engines_calibrator_that_failed_is_a_warning_and_leaves_its_own_cells_absent() -> None:
    entry = native_job(1)
    maker = "net/quantize/0/tensorrt/native"
    failure = Failure(ErrorCode.ENGINE_FAILED, "the calibrator fell over", "look at its log")
    states = {maker: TaskState.FAILED} | {
        name: TaskState.SKIPPED for name, task in entry.job.tasks.items() if maker in task.needs
    }
    lost = {name: replace(entry.job.tasks[name], state=state, failure=failure) for name, state in states.items()}
    entry.job = Job("j", {**entry.job.tasks, **lost})
    assert [(cell.precision, cell.quantization, cell.reason) for cell in absences(entry)] == [
        ("int8", "native", "the calibrator fell over")
    ]
    warnings = write_report(entry, {}, lambda _: b"").warnings
    assert f"{maker} failed: the calibrator fell over (look at its log)" in warnings
    assert any("no law says that they repeat" in warning for warning in warnings)


def test_the_native_models_of_two_targets_are_delivered_apart() -> None:
    entry = native_job(2)
    for target in (0, 1):
        form = ModelForm("native", (ref("calibration.cache", b"%d" % target),))
        entry.results[f"net/quantize/{target}/tensorrt/native"] = QuantizeResult("tensorrt", (form,), ())
    assert {file.name: file.digest for file in delivered_files(entry)} == {
        f"net/tensorrt-{target}-native/calibration.cache": ref("", b"%d" % target).digest for target in (0, 1)
    }
