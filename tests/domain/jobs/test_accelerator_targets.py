"""Targets on GPUs and phones: what is measured, what is absent and why, forms that a job names, and native ranges."""

from dataclasses import replace

import pytest
from tests.domain.jobs.sample_jobs import (
    DATA,
    ONNX,
    PADDLE,
    TARGET,
    job_spec,
    model_spec,
    quantized_in,
    results_of,
)

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.assignment import files_of, slices_of, work
from quantfleet_domain.jobs.lifecycle import TaskKind
from quantfleet_domain.jobs.plan import Plan, corrected_runtimes, make_plan, runtimes_of
from quantfleet_domain.jobs.requirements import Requirement, requirement
from quantfleet_domain.jobs.results import check_result
from quantfleet_domain.jobs.spec import ModelSpec, TargetSpec
from quantfleet_domain.jobs.task_results import InspectResult, QuantizeResult, TrainResult
from quantfleet_domain.jobs.validation import validate
from quantfleet_domain.jobs.work import (
    BenchmarkWork,
    EvaluateWork,
    ModelForm,
    NativeWork,
    QuantizeWork,
    RuntimeForms,
    Slice,
    TrainWork,
)

FASTDEPLOY = ("fp32", "fp16", "int8", "int8+fp16", "int8+fp16+pinned")


def target(*engines: str, precisions: tuple[str, ...] = ("fp32", "int8"), form: str = "", pool: str = "") -> TargetSpec:
    return replace(TARGET, engines=engines, precisions=precisions, form=form, pool=pool)


def model(*quantizations: str, targets: tuple[TargetSpec, ...], onnx: bool = False) -> ModelSpec:
    return (
        model_spec(quantizations=quantizations, targets=targets)
        if onnx
        else quantized_in(*quantizations, targets=targets)
    )


def measured(plan: Plan, engine: str) -> list[str]:
    found = (name.split("/") for name in plan.details if f"/evaluate/0/{engine}/" in name and name.endswith("/0"))
    return ["/".join(parts[4:-1]) for parts in found]


def absent(plan: Plan, engine: str) -> dict[str, str]:
    return {f"{c.precision}/{c.quantization}": c.reason for c in plan.not_offered if c.engine == engine}


def benchmark(spec: ModelSpec, engine: str, without: str = "") -> BenchmarkWork:
    job = job_spec(spec)
    plan = make_plan(job)
    results = {name: result for name, result in results_of(plan).items() if not without or without not in name}
    asked = work(job, plan.details[f"net/benchmark/0/{engine}"], results)
    assert isinstance(asked, BenchmarkWork)
    return asked


def test_tensorrt_measures_every_precision_of_the_fields_tables_and_nothing_dynamic() -> None:
    plan = make_plan(
        job_spec(model("static", "dynamic", targets=(target("tensorrt", precisions=FASTDEPLOY),), onnx=True))
    )
    assert measured(plan, "tensorrt") == [
        "fp32",
        "fp16",
        "int8/static",
        "int8+fp16/static",
        "int8+fp16+pinned/static",
    ]
    reasons = absent(plan, "tensorrt")
    assert set(reasons) == {"int8/dynamic", "int8+fp16/dynamic", "int8+fp16+pinned/dynamic"}
    assert all("ranges that are known when an engine is built" in reason for reason in reasons.values())
    makers = [name for name, detail in plan.details.items() if detail.kind is TaskKind.QUANTIZE]
    assert makers == ["net/quantize/tensorrt"], "all INT8 precisions have one model"


@pytest.mark.parametrize(
    ("engine", "said"), [("onnxruntime-cuda", "onnxruntime-tensorrt has"), ("paddle-gpu", "paddle-tensorrt has INT8")]
)
def test_a_gpu_engine_without_int8_measures_floats_and_names_the_engine_that_has_it(engine: str, said: str) -> None:
    spec = model("static", "dynamic", "distill", targets=(target(engine, precisions=(*FASTDEPLOY, "int16")),))
    plan = make_plan(job_spec(spec))
    assert measured(plan, engine) == ["fp32", "fp16"]
    reasons = absent(plan, engine)
    assert reasons.pop("int16/dynamic") == f"{engine} has no int16"
    assert len(reasons) == 9
    assert all(said in reason for reason in reasons.values())
    assert not any("/quantize/" in name or "/train/" in name for name in plan.details)


def test_a_measurement_on_a_gpu_needs_no_more_cores_than_its_own_whatever_the_target_sweeps_on_others() -> None:
    spec = job_spec(model(targets=(replace(target("tensorrt", "onnxruntime-cpu"), threads=(1, 4)),)))
    plan = make_plan(spec)
    needed = {
        engine: requirement(spec, plan.details[f"net/benchmark/0/{engine}"], {}).cores
        for engine in ("tensorrt", "onnxruntime-cpu")
    }
    assert needed == {"tensorrt": 1, "onnxruntime-cpu": 4}


def test_int16_is_dynamic_and_paddle_lites_alone() -> None:
    engines = ("paddle-lite", "paddle-lite-armv7", "tensorrt", "paddle-cpu")
    spec = model("static", "dynamic", "distill", targets=(target(*engines, precisions=("int8", "int16")),))
    plan = make_plan(job_spec(spec))
    for engine in engines[:2]:
        assert measured(plan, engine) == ["int8/static", "int8/dynamic", "int8/distill", "int16/dynamic"]
        assert absent(plan, engine) == {}
    for engine in engines[2:]:
        assert absent(plan, engine)["int16/dynamic"] == f"{engine} has no int16"
    undynamic = make_plan(job_spec(model("static", targets=(target("paddle-lite", precisions=("int16",)),))))
    assert absent(undynamic, "paddle-lite") == {"int16/dynamic": "the job does not quantize dynamically"}


def test_only_engines_with_a_calibrator_measure_native_ranges() -> None:
    engines = ("tensorrt", "paddle-tensorrt", "onnxruntime-tensorrt", "paddle-lite", "onnxruntime-cpu", "paddle-cpu")
    plan = make_plan(job_spec(model("native", targets=(target(*engines, precisions=("int8", "int8+fp16")),))))
    assert {engine for engine in engines if measured(plan, engine)} == {"tensorrt", "paddle-tensorrt"}
    plan = make_plan(job_spec(model("native", targets=(target(*engines, precisions=("int8",)),))))
    for engine in engines[2:]:
        assert absent(plan, engine) == {"int8/native": f"{engine}: it has no calibrator of its own"}


def test_native_ranges_need_samples() -> None:
    spec = model("native", targets=(target("tensorrt"),))
    plan = make_plan(job_spec(replace(spec, calibration=None)))
    assert measured(plan, "tensorrt") == ["fp32"]
    assert "no samples" in absent(plan, "tensorrt")["int8/native"]
    calibration = spec.calibration
    assert calibration is not None
    brought = replace(spec, calibration=replace(calibration, data=None, scales=ONNX, bias_correction=False))
    with pytest.raises(QuantfleetError, match="own calibrator needs samples") as caught:
        validate(job_spec(brought))
    assert caught.value.code is ErrorCode.JOB_INVALID


@pytest.mark.parametrize(
    ("engine", "onnx", "runtime", "files"),
    [("tensorrt", True, "tensorrt", (ONNX,)), ("paddle-tensorrt", False, "paddle-tensorrt", PADDLE)],
)
def test_an_engine_finds_its_ranges_on_a_device_of_its_target_over_all_samples(
    engine: str, onnx: bool, runtime: str, files: object
) -> None:
    spec = model("native", targets=(target(engine, pool="t4", precisions=("int8+fp16",)),), onnx=onnx)
    job = job_spec(spec)
    plan = make_plan(job)
    name = f"net/quantize/0/{engine}/native"
    assert next(task for task in plan.tasks if task.id == name).needs == ("net/inspect",)
    results = results_of(plan)
    assert requirement(job, plan.details[name], results) == Requirement((engine,), "t4", False, 1, None)
    asked = work(job, plan.details[name], {"net/inspect": results["net/inspect"]})
    assert isinstance(asked, NativeWork)
    assert (asked.engine, asked.runtime, asked.files) == (engine, runtime, files)
    assert slices_of(asked) == (Slice(DATA.manifest, 0, DATA.samples),)
    assert files_of(asked) == (*asked.files, DATA.manifest, spec.preprocess)
    check_result(plan.details[name], asked, QuantizeResult(runtime, (ModelForm("native", (ONNX,)),), ()))
    with pytest.raises(QuantfleetError, match="runtime"):
        check_result(plan.details[name], asked, QuantizeResult("onnx", (ModelForm("native", (ONNX,)),), ()))


def test_a_paddle_model_reaches_tensorrts_calibrator_as_its_reference_graph() -> None:
    job = job_spec(model("native", targets=(target("tensorrt"),)))
    plan = make_plan(job)
    results = results_of(plan)
    inspected = results["net/inspect"]
    asked = work(job, plan.details["net/quantize/0/tensorrt/native"], results)
    assert isinstance(asked, NativeWork)
    assert isinstance(inspected, InspectResult)
    assert asked.files == (inspected.reference,)


def test_each_target_has_native_ranges_of_its_own() -> None:
    targets = (target("tensorrt", pool="t4", precisions=FASTDEPLOY), target("tensorrt", pool="cuda"))
    job = job_spec(model("native", targets=targets))
    plan = make_plan(job)
    makers = [f"net/quantize/{index}/tensorrt/native" for index in (0, 1)]
    assert [name for name, detail in plan.details.items() if detail.kind is TaskKind.QUANTIZE] == makers
    results = results_of(plan)
    for index, maker in enumerate(makers):
        made = results[maker]
        assert isinstance(made, QuantizeResult)
        for name in (f"net/evaluate/{index}/tensorrt/int8/native/0", f"net/benchmark/{index}/tensorrt"):
            assert maker in next(task for task in plan.tasks if task.id == name).needs
            asked = work(job, plan.details[name], results)
            assert isinstance(asked, EvaluateWork | BenchmarkWork)
            variants = [asked.variant] if isinstance(asked, EvaluateWork) else asked.variants
            assert {v.forms for v in variants if v.quantization == "native"} == {made.forms}


def test_a_calibrator_that_failed_takes_its_own_cells_along_and_no_others() -> None:
    targets = (target("tensorrt", precisions=FASTDEPLOY), target("tensorrt"))
    spec = model("static", "native", targets=targets)
    tasks = {task.id: task for task in make_plan(job_spec(spec)).tasks}
    assert tasks["net/benchmark/0/tensorrt"].needs == ("net/inspect",)
    failed = "net/quantize/0/tensorrt/native"
    assert {name for name, task in tasks.items() if failed in task.needs} == {
        f"net/evaluate/0/tensorrt/{precision}/native/{shard}" for precision in FASTDEPLOY[2:] for shard in (0, 1)
    }
    asked = benchmark(spec, "tensorrt", without=failed)
    assert [(v.precision, v.quantization) for v in asked.variants] == [
        ("fp32", "none"),
        ("fp16", "none"),
        *((precision, "static") for precision in FASTDEPLOY[2:]),
    ]
    assert [(gap.precision, gap.quantization) for gap in asked.absent] == [(p, "native") for p in FASTDEPLOY[2:]]


def test_the_form_that_a_target_names_reaches_its_measurement_and_its_evaluation() -> None:
    spec = model("static", targets=(target("tensorrt", form="cache"), target("tensorrt")))
    validate(job_spec(spec))
    job = job_spec(spec)
    plan = make_plan(job)
    for index, form in enumerate(("cache", "")):
        for name in (f"net/benchmark/{index}/tensorrt", f"net/evaluate/{index}/tensorrt/int8/static/0"):
            asked = work(job, plan.details[name], results_of(plan))
            assert isinstance(asked, EvaluateWork | BenchmarkWork)
            assert asked.form == form


@pytest.mark.parametrize(
    ("asked", "said", "todo"),
    [
        (target("tensorrt", form="qdq"), "tensorrt takes no form 'qdq'", "s8s8, cache"),
        (target("tensorrt", "paddle-tensorrt", form="cache"), "paddle-tensorrt takes no form 'cache'", "qdq, table"),
        (target("paddle-lite", form="s8s8"), "paddle-lite takes no form 's8s8'", "leave the form out"),
        (target(form="s8s8"), "a form and no engine", "name its engines"),
    ],
)
def test_a_form_that_an_engine_does_not_take_is_refused(asked: TargetSpec, said: str, todo: str) -> None:
    with pytest.raises(QuantfleetError, match=said) as caught:
        validate(job_spec(model("static", targets=(asked,))))
    assert caught.value.code is ErrorCode.JOB_INVALID
    assert todo in caught.value.todo


def test_a_training_is_written_only_for_the_runtimes_that_the_job_needs() -> None:
    cases: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
        (("tensorrt", "onnxruntime-tensorrt"), ("tensorrt",)),
        (("onnxruntime-cpu", "paddle-cpu"), ("onnx", "paddle")),
        (("onnxruntime-cuda", "paddle-tensorrt"), ("paddle-tensorrt",)),
    ]
    for engines, runtimes in cases:
        measured_here = target(*engines, precisions=("fp32", "int8", "int8+fp16"))
        targets = (measured_here, target(engines[0], precisions=("fp32",)))
        job = job_spec(model("static", "distill", targets=targets))
        plan = make_plan(job)
        detail, results = plan.details["net/train/distill/0"], results_of(plan)
        asked = work(job, detail, results)
        assert isinstance(asked, TrainWork)
        assert asked.runtimes == runtimes == runtimes_of(job.models[0], "distill")
        brought = results["net/train/distill/0"]
        assert isinstance(brought, TrainResult)
        form = ModelForm("s8s8", (ONNX,))
        for made in (runtimes, (*runtimes, "openvino"), runtimes[1:]):
            best = replace(brought.best, made=tuple(RuntimeForms(runtime, (form,)) for runtime in made))
            if set(made) >= set(runtimes):
                check_result(detail, asked, replace(brought, best=best))
            else:
                with pytest.raises(QuantfleetError, match="runtimes"):
                    check_result(detail, asked, replace(brought, best=best))


def test_paddles_tensorrt_has_int8_with_fp16_beside_it_only() -> None:
    plan = make_plan(job_spec(model("static", targets=(target("paddle-tensorrt", precisions=FASTDEPLOY),))))
    assert measured(plan, "paddle-tensorrt") == ["fp32", "fp16", "int8+fp16/static", "int8+fp16+pinned/static"]
    assert "its precision is int8+fp16" in absent(plan, "paddle-tensorrt")["int8/static"]


def test_biases_are_corrected_for_every_runtime_that_is_quantized_statically_and_for_no_other() -> None:
    everything = ("onnxruntime-cpu", "onnxruntime-cuda", "paddle-cpu", "paddle-lite", "paddle-tensorrt", "tensorrt")
    job = job_spec(model("static", targets=(target(*everything, precisions=("fp32", "int8", "int8+fp16")),)))
    made = {"onnx", "paddle", "paddle-lite", "paddle-tensorrt", "tensorrt"}
    assert set(corrected_runtimes(job.models[0])) == made
    assert corrected_runtimes(model("native", targets=(target(*everything),))) == ()
    plan = make_plan(job)
    results = results_of(plan)
    for runtime in made:
        asked = work(job, plan.details[f"net/quantize/{runtime}"], results)
        assert isinstance(asked, QuantizeWork)
        assert asked.corrections is not None
