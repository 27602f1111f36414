import operator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domain.reporting.sample_reports import sample_report, trained_report

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.reporting.gates import evaluate, parse
from quantfleet_domain.reporting.report import Accuracy, Result, SpeedupFigure

RESULTS = sample_report().results


def value_of(expression: str, results: tuple[Result, ...] = RESULTS) -> float | None:
    return evaluate([expression], results)[0].value


def test_the_worst_matching_value_counts() -> None:
    speedups = [r.speedup.value for r in RESULTS if r.speedup]
    assert value_of("int8.speedup >= 1.5") == min(speedups)
    assert value_of("int8.speedup <= 1.5") == max(speedups)


@pytest.mark.parametrize(
    ("expression", "passed"),
    [
        ("int8.speedup >= 1.5", True),
        ("int8.speedup >= 2", False),
        ("runtime.int8.speedup.low > 2", True),
        ("int8.runtime.speedup > 2", True),
        ("int8.top1_drop <= 1.0", False),
        ("onnxruntime-cpu.int8.top1_drop <= 0.5", True),
        ("top1_drop<=2.5", True),
        ("fp32.top1 > 56", True),
        ("int8.latency_ms.p99 < 20", True),
        ("latency_ms.p99 < 20", False),
        ("throughput_per_s > 30", True),
        ("int8.model_bytes < 5e6", True),
        ("memory_mb <= 200", True),
    ],
)
def test_gates_are_judged_by_the_results(expression: str, passed: bool) -> None:
    (result,) = evaluate([expression], RESULTS)
    assert result.expression == expression
    assert result.value is not None
    assert result.passed is passed


def test_a_drop_is_fp32_minus_int8_on_the_same_engine_and_device() -> None:
    assert value_of("onnxruntime-cpu.int8.top1_drop <= 1") == 0.5
    assert value_of("paddle-cpu.int8.top1_drop <= 1") == 2.5
    elsewhere = tuple(replace(r, device="cpu:1") if r.precision == "fp32" else r for r in RESULTS)
    assert value_of("int8.top1_drop <= 1", elsewhere) is None


def test_a_gate_may_name_a_quantization_and_then_judges_no_other() -> None:
    results = trained_report().results
    assert value_of("int8.static.top1_drop <= 1", results) == 2.5
    assert value_of("int8.qat.top1_drop <= 1", results) == 2.0
    assert value_of("qat.onnxruntime-cpu.top1_drop <= 1", results) == 0.0
    assert value_of("int8.top1_drop <= 1", results) == 2.5
    assert value_of("int8.distill.top1_drop <= 1", results) is None


def test_the_metrics_of_detectors_and_segmenters_have_gates_too() -> None:
    for metric in ("map", "map50", "miou", "pixel_accuracy", "accuracy"):
        found = {p: (Accuracy(metric, value, "percent", 50),) for p, value in (("fp32", 40.5), ("int8", 39.0))}
        results = tuple(replace(r, accuracy=found[r.precision]) for r in RESULTS)
        assert value_of(f"int8.{metric}_drop <= 1.0", results) == 1.5
        assert value_of(f"fp32.{metric} > 40", results) == 40.5


@pytest.mark.parametrize(
    ("expression", "results"), [("fp16.speedup > 1", RESULTS), ("fp32.speedup > 1", RESULTS), ("speedup > 1", ())]
)
def test_a_gate_without_anything_to_judge_by_is_not_passed(expression: str, results: tuple[Result, ...]) -> None:
    (result,) = evaluate([expression], results)
    assert result.value is None
    assert not result.passed


def test_a_matching_result_that_lacks_the_value_is_worse_than_any_value() -> None:
    holed = (*RESULTS[:-1], replace(RESULTS[-1], speedup=None))
    (result,) = evaluate(["int8.speedup >= 0.1"], holed)
    assert result.value is None
    assert not result.passed


def test_an_accuracy_needs_to_be_on_one_row_of_its_engine_only() -> None:
    once = tuple(r if r.mode == "runtime" else replace(r, accuracy=()) for r in RESULTS)
    assert value_of("int8.top1_drop <= 1", once) == 2.5


@pytest.mark.parametrize(
    ("expression", "column", "hint"),
    [
        ("int8.speedpu >= 1.5", 6, "did you mean 'speedup'?"),
        ("itn8.speedup >= 1.5", 1, "did you mean 'int8'?"),
        ("int8.latency_ms.p98 < 20", 17, "did you mean 'p99'?"),
        ("int8.latency_ms < 20", 16, "mean, median"),
        ("int8.top1_drp <= 1.0", 6, "did you mean 'top1_drop'?"),
        ("int8.speedup >= fast", 17, "plain number"),
        ("int8.latency_ms.p99 < 20ms", 23, "plain number"),
        ("int8.speedup >= nan", 17, "plain number"),
        ("int8.speedup == 1.5", 14, ">=, <=, > or <"),
        ("int8.speedup => 1.5", 14, ">=, <=, > or <"),
        ("int8 >= 1.5", 5, "end with one of"),
        ("int8.fp32.speedup > 1", 6, "did you mean 'fp32'?"),
        ("int8.qta.speedup > 1", 6, "did you mean 'qat'?"),
        ("qat.static.speedup > 1", 5, "did you mean 'static'?"),
        ("int8.top1.mean > 1", 11, "write top1 alone"),
        ("speedup.low.x > 1", 13, "speedup.low alone"),
        ("fast enough", 1, "int8.speedup >= 1.5"),
        ("", 1, "int8.speedup >= 1.5"),
    ],
)
def test_a_wrong_gate_is_told_its_column_and_the_nearest_right_name(expression: str, column: int, hint: str) -> None:
    with pytest.raises(QuantfleetError) as caught:
        parse(expression)
    assert caught.value.code is ErrorCode.JOB_INVALID
    assert f"column {column}:" in caught.value.what
    assert hint in caught.value.todo


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_gate_or_one_clear_error(expression: str) -> None:
    try:
        assert parse(expression).expression == expression
    except QuantfleetError as error:
        code = error.code
    else:
        return
    assert code is ErrorCode.JOB_INVALID


COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@settings(deadline=None)
@given(
    st.lists(st.floats(0.1, 10), min_size=1, max_size=8),
    st.sampled_from(sorted(COMPARISONS)),
    st.floats(0.1, 10),
)
def test_a_gate_passes_exactly_when_every_result_does(values: list[float], comparison: str, limit: float) -> None:
    int8 = next(r for r in RESULTS if r.precision == "int8")
    results = tuple(replace(int8, speedup=SpeedupFigure(v, None, None, "fp32")) for v in values)
    (result,) = evaluate([f"speedup {comparison} {limit!r}"], results)
    assert result.passed == all(COMPARISONS[comparison](v, limit) for v in values)
    assert result.value in values


def test_a_drop_of_just_its_limit_passes_whatever_binary_fractions_make_of_it() -> None:
    correct = {"fp32": 97, "int8": 94}  # of 150: 100 * 97 / 150 - 100 * 94 / 150 is 2.000000000000007
    results = tuple(
        replace(r, accuracy=(Accuracy("top1", 100 * correct[r.precision] / 150, "percent", 150),)) for r in RESULTS
    )
    (gate,) = evaluate(["int8.top1_drop <= 2"], results)
    assert (gate.value, gate.passed) == (2.0, True)
