"""A result is taken only if it is one that its task can have."""

from dataclasses import replace

import pytest
from tests.domain.jobs.sample_jobs import DATA, NUMERICS, ONNX, job_spec, model_spec, quantized_in, results_of

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.assignment import work
from quantfleet_domain.jobs.lifecycle import TaskKind
from quantfleet_domain.jobs.measured import (
    BenchmarkResult,
    BoxOutcome,
    ClassOutcome,
    EvaluateResult,
    Measured,
    Part,
    PixelOutcome,
)
from quantfleet_domain.jobs.plan import make_plan
from quantfleet_domain.jobs.results import check_result
from quantfleet_domain.jobs.settling import settled
from quantfleet_domain.jobs.spec import EvaluateSpec
from quantfleet_domain.jobs.task_results import (
    CalibrateResult,
    InspectResult,
    QuantizeResult,
    Result,
    SumsResult,
    TrainResult,
)
from quantfleet_domain.jobs.work import ModelForm, RuntimeForms
from quantfleet_domain.measurement.latency import LatencySummary
from quantfleet_domain.measurement.quiet import Conditions


def _evaluated(**fields: object) -> EvaluateResult:
    counted = (1,) * 10
    outcome = ClassOutcome(counted, counted, (True,) * 10)
    result = EvaluateResult("onnxruntime-cpu", "1", "int8", "static", "", 10, outcome)
    return replace(result, **fields)  # type: ignore[arg-type]  # fields of the dataclass


BENCHMARK = "net/benchmark/0/onnxruntime-cpu"
LATENCY = LatencySummary(1.0, None, 1.0, 1.0, None, None, None, None, 5)
PARTS = (Part("h2d", 1.0),)
MEASURED = Measured(
    "fp32", "none", "", "runtime", 1, 1, LATENCY, None, True, (), Conditions(), (), 0, 0, (), 7, (), parts=PARTS
)  # fmt: skip
GOOD: dict[str, Result] = {
    "net/inspect": InspectResult(ONNX, ONNX, NUMERICS, (), ()),
    "net/calibrate/0": CalibrateResult((ONNX,), 6, 1.0, "numpy"),
    "net/correct/0/0": SumsResult(ONNX, 6, 1.0),
    "net/quantize/onnx": QuantizeResult("onnx", (ModelForm("u8s8", (ONNX,)),), ()),
    BENCHMARK: BenchmarkResult("onnxruntime-cpu", "1", "cpu:0", 1.0, 1, 1, 1, (), (), ONNX),
    "net/evaluate/0/onnxruntime-cpu/int8/static/1": _evaluated(),
}


def _check(task: str, result: Result) -> None:
    spec = job_spec()
    plan = make_plan(spec)
    detail = plan.details[task]
    asked = None if detail.kind is TaskKind.MERGE else work(spec, detail, results_of(plan))
    check_result(detail, asked, result)


@pytest.mark.parametrize("task", GOOD)
def test_a_result_is_of_the_kind_of_its_task(task: str) -> None:
    for name, result in GOOD.items():
        if name == task:
            _check(task, result)
        else:
            with pytest.raises(QuantfleetError) as caught:
                _check(task, result)
            assert caught.value.code is ErrorCode.WORKER_FAILED
            assert f"it is a {type(result).__name__}" in caught.value.what


@pytest.mark.parametrize(
    ("task", "result"),
    [
        ("net/inspect", InspectResult(ONNX, ONNX, replace(NUMERICS, engine="another"), (), ())),
        ("net/inspect", InspectResult(replace(ONNX, name="../x"), ONNX, NUMERICS, (), ())),
        ("net/inspect", InspectResult(ONNX, ONNX, None, (), ())),
        ("net/inspect", InspectResult(None, None, NUMERICS, (), ())),
        ("net/calibrate/0", CalibrateResult((ONNX,), 7, 1.0, "numpy")),
        ("net/calibrate/0", CalibrateResult((), 6, 1.0, "numpy")),
        ("net/correct/0/0", SumsResult(ONNX, 7, 1.0)),
        ("net/correct/0/0", SumsResult(None, 6, 1.0)),
        ("net/quantize/onnx", QuantizeResult("paddle", (ModelForm("u8s8", (ONNX,)),), ())),
        ("net/quantize/onnx", QuantizeResult("onnx", (), ())),
        ("net/quantize/onnx", QuantizeResult("onnx", (ModelForm("u8s8", (replace(ONNX, name="/etc/x"),)),), ())),
        ("net/quantize/onnx", QuantizeResult("onnx", (ModelForm("/../../x", (ONNX,)),), ())),
        ("net/evaluate/0/onnxruntime-cpu/int8/static/1", _evaluated(first=0)),
        (
            "net/evaluate/0/onnxruntime-cpu/int8/static/1",
            _evaluated(outcome=ClassOutcome((1,) * 9, (1,) * 10, (True,) * 10)),
        ),
        ("net/evaluate/0/onnxruntime-cpu/int8/static/1", _evaluated(outcome=ClassOutcome((1,) * 10, (1,) * 10, ()))),
        ("net/evaluate/0/onnxruntime-cpu/int8/static/1", _evaluated(precision="fp32")),
        ("net/evaluate/0/onnxruntime-cpu/int8/static/1", _evaluated(outcome=PixelOutcome(10, 2, (1,) * 4))),
        ("net/merge", GOOD["net/inspect"]),
    ],
)
def test_a_result_that_nothing_could_be_done_with_is_refused(task: str, result: Result) -> None:
    with pytest.raises(QuantfleetError) as caught:
        _check(task, result)
    assert caught.value.code is ErrorCode.WORKER_FAILED


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_a_figure_that_is_no_number_is_refused_with_its_name(figure: float) -> None:
    result = GOOD[BENCHMARK]
    assert isinstance(result, BenchmarkResult)
    _check(BENCHMARK, replace(result, rows=(MEASURED,)))
    with pytest.raises(QuantfleetError, match=r"rows\.parts\.mean_ms is (nan|inf)"):
        _check(BENCHMARK, replace(result, rows=(replace(MEASURED, parts=(Part("h2d", figure),)),)))


def test_a_quantized_model_is_inspected_without_a_reference_graph() -> None:
    spec = job_spec(model_spec(calibration=None, quantized=True))
    plan = make_plan(spec)
    detail = plan.details["net/inspect"]
    check_result(detail, work(spec, detail, {}), InspectResult(None, None, None, (), ()))


def test_a_training_brings_its_model_for_every_runtime_that_can_measure_it() -> None:
    spec = job_spec(quantized_in("distill"))
    plan = make_plan(spec)
    detail, results = plan.details["net/train/distill/0"], results_of(plan)
    whole = results["net/train/distill/0"]
    assert isinstance(whole, TrainResult)
    check_result(detail, work(spec, detail, results), whole)
    more = (*whole.best.made, RuntimeForms("paddle-lite", whole.best.made[0].forms))
    check_result(detail, work(spec, detail, results), replace(whole, best=replace(whole.best, made=more)))
    for made in ((), whole.best.made[:1], (whole.best.made[0], replace(whole.best.made[1], forms=()))):
        with pytest.raises(QuantfleetError, match="runtimes") as caught:
            check_result(detail, work(spec, detail, results), replace(whole, best=replace(whole.best, made=made)))
        assert caught.value.code is ErrorCode.WORKER_FAILED


@pytest.mark.parametrize(
    ("metric", "outcome", "fits"),
    [
        ("miou", PixelOutcome(10, 2, (1, 0, 3, 4)), True),
        ("miou", PixelOutcome(9, 2, (1, 0, 3, 4)), False),
        ("miou", PixelOutcome(10, 2, (1, 0, 3)), False),
        ("miou", PixelOutcome(10, 2, (1, 0, 3, -4)), False),
        ("miou", BoxOutcome(10, 1.0, 2.0), False),
        ("map", BoxOutcome(20, 40.0, 60.0), True),
        ("map", BoxOutcome(10, 40.0, 60.0), False),
        ("map", BoxOutcome(20, float("nan"), 60.0), False),
        ("map", BoxOutcome(20, 40.0, 101.0), False),
    ],
)
def test_an_outcome_is_of_the_kind_that_the_metrics_ask_for_and_whole(
    metric: str, outcome: PixelOutcome | BoxOutcome, fits: bool
) -> None:
    evaluate = EvaluateSpec(replace(DATA, annotations=ONNX), (metric,), 2)
    spec = settled(job_spec(model_spec(evaluate=evaluate)), 1, lambda _: ())
    plan = make_plan(spec)
    detail = plan.details["net/evaluate/0/onnxruntime-cpu/fp32/0"]
    result = EvaluateResult("onnxruntime-cpu", "1", "fp32", "none", "", 0, outcome)
    if fits:
        check_result(detail, work(spec, detail, results_of(plan)), result)
        return
    with pytest.raises(QuantfleetError) as caught:
        check_result(detail, work(spec, detail, results_of(plan)), result)
    assert caught.value.code is ErrorCode.WORKER_FAILED
