"""Several quantizations of one model stand beside each other, and one that fails takes no other along."""

from dataclasses import replace

import pytest
from tests.domain.jobs.sample_jobs import TARGET, job_spec, model_spec, quantized_in, results_of, training

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.offers import ENGINES, REFERENCE_ENGINE
from quantfleet_domain.jobs.assignment import (
    slices_of,
    work,
)
from quantfleet_domain.jobs.plan import make_plan
from quantfleet_domain.jobs.requirements import requirement
from quantfleet_domain.jobs.spec import FileRef, GivenModel, ModelSpec
from quantfleet_domain.jobs.task_results import (
    Result,
    TrainResult,
)
from quantfleet_domain.jobs.validation import validate
from quantfleet_domain.jobs.variants import VariantKey, asked_for, measurable, why_not
from quantfleet_domain.jobs.work import (
    BenchmarkWork,
    QuantizeWork,
    TrainWork,
)

PADDLE_ONLY = (replace(TARGET, engines=("paddle-cpu",)),)
ONNX_ONLY = (replace(TARGET, engines=("onnxruntime-cpu",)),)
ALL = ("static", "qat", "distill", "given")


def _benchmark(model: ModelSpec, engine: str, without: str = "") -> BenchmarkWork:
    spec = job_spec(model)
    plan = make_plan(spec)
    results = {name: result for name, result in results_of(plan).items() if not without or without not in name}
    asked = work(spec, plan.details[f"net/benchmark/0/{engine}"], results)
    assert isinstance(asked, BenchmarkWork)
    return asked


def test_every_quantization_is_measured_beside_fp32_in_one_interleaved_task() -> None:
    asked = _benchmark(quantized_in(*ALL, targets=PADDLE_ONLY), "paddle-cpu")
    assert [(v.precision, v.quantization) for v in asked.variants] == [
        ("fp32", "none"),
        *(("int8", quantization) for quantization in ALL),
    ]


def test_a_training_is_a_chain_of_intervals_each_from_the_checkpoint_before() -> None:
    spec = job_spec(quantized_in("distill", targets=PADDLE_ONLY))
    plan, tasks = make_plan(spec), {task.id: task for task in make_plan(spec).tasks}
    assert [name for name in tasks if "/train/" in name] == [f"net/train/distill/{i}" for i in range(3)]
    assert tasks["net/train/distill/2"].needs == ("net/inspect", "net/train/distill/1")
    results = results_of(plan)
    before = results["net/train/distill/1"]
    assert isinstance(before, TrainResult)
    first, last = (work(spec, plan.details[f"net/train/distill/{i}"], results) for i in (0, 2))
    assert isinstance(first, TrainWork)
    assert isinstance(last, TrainWork)
    assert (first.checkpoint, first.best) == (None, None)
    assert (last.checkpoint, last.best, last.interval) == (before.checkpoint, before.best, 2)
    assert len(slices_of(last)) == 2


def test_a_training_goes_on_from_the_checkpoint_that_the_user_brings() -> None:
    checkpoint = replace(training().data.manifest, name="checkpoint")
    model = quantized_in("distill", targets=PADDLE_ONLY)
    model = replace(model, trainings=(training(resume=checkpoint),))
    spec = job_spec(model)
    asked = work(spec, make_plan(spec).details["net/train/distill/0"], results_of(make_plan(spec)))
    assert isinstance(asked, TrainWork)
    assert asked.checkpoint == checkpoint
    assert checkpoint.digest in spec.inputs()


def test_a_training_needs_its_packages_and_the_users_code_on_the_node() -> None:
    spec = job_spec(quantized_in("qat", "distill", targets=PADDLE_ONLY))
    plan, results = make_plan(spec), results_of(make_plan(spec))
    qat, distill = (requirement(spec, plan.details[f"net/train/{m}/0"], results) for m in ("qat", "distill"))
    assert (qat.software, qat.code) == ((), "recipes")
    assert (distill.software, distill.code) == (("paddleslim",), "")


@pytest.mark.parametrize("failed", ["train/qat", "train/distill", "quantize"])
def test_a_quantization_that_failed_is_absent_and_the_others_are_measured(failed: str) -> None:
    model = quantized_in("static", "qat", "distill", targets=PADDLE_ONLY)
    asked = _benchmark(model, "paddle-cpu", without=failed)
    lost = {"quantize": "static"}.get(failed, failed.removeprefix("train/"))
    assert lost not in [variant.quantization for variant in asked.variants]
    assert [(gap.precision, gap.quantization) for gap in asked.absent] == [("int8", lost)]
    assert len(asked.variants) == 3


def test_a_given_model_is_measured_though_the_quantization_beside_it_failed() -> None:
    model = quantized_in("static", "given", targets=PADDLE_ONLY)
    task = next(task for task in make_plan(job_spec(model)).tasks if task.id == "net/benchmark/0/paddle-cpu")
    assert (task.needs, task.after) == (("net/inspect",), ("net/quantize/paddle",))
    asked = _benchmark(model, "paddle-cpu", without="quantize")
    assert [variant.quantization for variant in asked.variants] == ["none", "given"]


def test_where_one_quantization_is_all_there_is_nothing_is_measured_without_it() -> None:
    plan = make_plan(job_spec(model_spec(targets=ONNX_ONLY)))
    task = next(task for task in plan.tasks if task.id == "net/benchmark/0/onnxruntime-cpu")
    assert task.needs == ("net/inspect", "net/quantize/onnx")
    assert task.after == ()


def test_a_trained_model_runs_on_every_runtime_and_is_trained_once() -> None:
    model = quantized_in("distill", targets=(replace(TARGET, engines=("onnxruntime-cpu", "paddle-cpu")),))
    plan = make_plan(job_spec(model))
    assert len([name for name in plan.details if "/train/" in name]) == 3
    assert "net/evaluate/0/onnxruntime-cpu/int8/distill/0" in plan.details


def test_dynamic_quantization_needs_neither_data_nor_a_scale_table() -> None:
    model = model_spec(calibration=None, quantizations=("dynamic",), targets=ONNX_ONLY)
    spec = job_spec(model)
    plan = make_plan(spec)
    results: dict[str, Result] = results_of(plan)
    asked = work(spec, plan.details["net/quantize/onnx/dynamic"], results)
    assert isinstance(asked, QuantizeWork)
    assert (asked.quantization, asked.scales, asked.corrections) == ("dynamic", None, None)
    assert "net/evaluate/0/onnxruntime-cpu/int8/dynamic/0" in plan.details


def test_a_quantized_model_is_measured_as_it_is_and_has_no_fp32() -> None:
    model = model_spec(calibration=None, quantized=True, targets=ONNX_ONLY)
    asked = _benchmark(model, "onnxruntime-cpu")
    assert [(v.quantization, v.forms[0].files) for v in asked.variants] == [("given", model.files)]
    (cell,) = make_plan(job_spec(model)).not_offered
    assert (cell.precision, cell.reason) == ("fp32", "the model is quantized already")


@pytest.mark.parametrize(
    ("engine", "key", "reason"),
    [
        ("paddle-cpu", VariantKey("int8", "dynamic"), "only Paddle Lite runs"),
        ("openvino-cpu", VariantKey("int8", "dynamic"), "in float"),
        ("onnxruntime-cpu", VariantKey("int8", "given"), "does not read quantized paddle models"),
        ("tensorrt", VariantKey("int8", "given"), "does not read quantized paddle models"),
    ],
)
def test_what_an_engine_cannot_run_is_refused_with_the_reason(engine: str, key: VariantKey, reason: str) -> None:
    model = quantized_in("dynamic", "qat", "given")
    assert reason in why_not(model, ENGINES[engine], key)
    assert key not in measurable(model, ENGINES[engine], ("int8",))
    assert key in asked_for(model, ("int8",))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (quantized_in("qat", "qat"), "twice"),
        (replace(quantized_in("qat"), trainings=()), "0 trainings by qat"),
        (replace(quantized_in("given"), given=None), "no given quantized model"),
        (model_spec(quantized=True), "quantized already, and the job calibrates it"),
        (model_spec(quantized=True, calibration=None, quantizations=("dynamic",)), "quantized already"),
        (replace(quantized_in("distill"), format="onnx"), "only Paddle models are trained"),
        (replace(quantized_in("distill"), evaluate=None), "the job evaluates nothing"),
        (replace(quantized_in("qat"), trainings=(training("qat", package=""),)), "names a package"),
        (replace(quantized_in("qat"), trainings=(training("qat", save_interval=0),)), "save_interval is 0"),
        (replace(quantized_in("qat"), trainings=(training("qat", learning_rate=-1.0),)), "learning rate"),
    ],
)
def test_a_job_whose_quantizations_make_no_sense_is_refused(model: ModelSpec, said: str) -> None:
    with pytest.raises(QuantfleetError, match=said) as caught:
        validate(job_spec(model))
    assert caught.value.code is ErrorCode.JOB_INVALID


def test_what_a_user_quantized_elsewhere_stands_beside_what_is_quantized_here() -> None:
    model = quantized_in("static", "given", targets=PADDLE_ONLY)
    assert isinstance(model.given, GivenModel)
    asked = _benchmark(model, "paddle-cpu")
    given = next(variant for variant in asked.variants if variant.quantization == "given")
    assert given.forms[0].files == model.given.files


NB = FileRef("theirs.nb", "3" * 64, 10)


def test_a_file_of_paddle_lite_is_measured_on_phones_and_nowhere_else() -> None:
    targets = (replace(TARGET, engines=tuple(ENGINES)),)
    alone = model_spec(format="paddle-lite", files=(NB,), quantized=True, calibration=None, targets=targets)
    beside = replace(quantized_in("given", targets=targets), given=GivenModel("paddle-lite", (NB,)))
    for model in (alone, beside):
        able = {
            name
            for name, offer in ENGINES.items()
            if VariantKey("int8", "given") in measurable(model, offer, ("int8",))
        }
        assert able == {"paddle-lite", "paddle-lite-armv7"}
        (given,) = (v for v in _benchmark(model, "paddle-lite").variants if v.quantization == "given")
        assert given.forms[0].files == (NB,)
    assert why_not(alone, ENGINES["paddle-cpu"], VariantKey("int8", "given")) == (
        "paddle-cpu does not read paddle-lite models"
    )
    assert why_not(beside, ENGINES["paddle-cpu"], VariantKey("int8", "given")) == (
        "paddle-cpu does not read quantized paddle-lite models"
    )


def test_a_file_of_paddle_lite_is_inspected_on_any_node_that_runs_the_reference_engine() -> None:
    targets = (replace(TARGET, engines=("paddle-lite",)),)
    spec = job_spec(model_spec(format="paddle-lite", files=(NB,), quantized=True, calibration=None, targets=targets))
    plan = make_plan(spec)
    assert requirement(spec, plan.details["net/inspect"], {}).engines == (REFERENCE_ENGINE,)
    with pytest.raises(QuantfleetError, match=r"is an \.nb file in float"):
        validate(job_spec(replace(spec.models[0], quantized=False)))
