from dataclasses import replace
from typing import Any

import pytest
from tests.domain.reporting.sample_reports import (
    failed_report,
    phone_report,
    sample_report,
    tuned_report,
    two_model_report,
)

from quantfleet_domain.reporting.checking.evidence import check_report
from quantfleet_domain.reporting.checking.findings import Finding, Rule, Severity
from quantfleet_domain.reporting.report import Accuracy, GateResult, Report, SpeedupFigure

FP32, INT8 = 0, 1
"""The first two results of the sample: onnxruntime-cpu, runtime."""


def changed(at: int, **values: Any) -> Report:
    report = sample_report()
    return replace(report, results=tuple(replace(r, **values) if i == at else r for i, r in enumerate(report.results)))


def with_latency(at: int, **values: float) -> Report:
    latency = sample_report().results[at].latency_ms
    assert latency
    return changed(at, latency_ms=replace(latency, **values))


def without_gates(report: Report) -> Report:
    return replace(report, gates=())


def found(report: Report) -> list[tuple[Rule, str, str]]:
    findings = check_report(report).findings
    assert all(finding.severity is Severity.FAULT for finding in findings)
    return [(finding.rule, finding.part.split(":")[0], finding.where) for finding in findings]


def the(report: Report) -> Finding:
    (finding,) = check_report(report).findings
    return finding


@pytest.mark.parametrize("make", [sample_report, tuned_report, two_model_report, failed_report])
def test_a_report_as_jobs_write_it_has_nothing_to_find(make: Any) -> None:
    checked = check_report(make())
    assert checked.findings == ()
    assert checked.judged == {"results": len(make().results), "gates": 3}


def test_percentiles_that_a_phone_does_not_tell_are_no_fault_and_survive_being_written() -> None:
    report = phone_report()
    rows = {Rule.PERCENTILES} & {finding.rule for finding in check_report(report).findings}
    assert not rows
    assert Report.from_json(report.to_json()) == report


def test_a_report_has_nothing_to_find_after_it_was_written_and_read() -> None:
    assert check_report(Report.from_json(two_model_report().to_json())).findings == ()


def test_a_speedup_that_does_not_follow_from_its_two_means_is_found() -> None:
    finding = the(changed(INT8, speedup=SpeedupFigure(2.5, 2.4, 2.6, "fp32")))
    assert (finding.rule, finding.where) == (Rule.SPEEDUP, "speedup.value")
    assert finding.part == "results[1]: mobilenet, onnxruntime-cpu int8, local/cpu:0, runtime, 1 thread, batch 1"
    fp32, int8 = (sample_report().results[at].latency_ms for at in (FP32, INT8))
    assert fp32
    assert int8
    assert f"2.5 should be {fp32.mean / int8.mean:.6g} = {fp32.mean:.6g} ms ÷ {int8.mean:.6g} ms" in finding.what


def test_a_speedup_against_a_precision_that_was_not_measured_with_it_is_found() -> None:
    value = sample_report().results[INT8].speedup
    assert value
    finding = the(changed(INT8, speedup=replace(value, against="bf16")))
    assert "there is no bf16 latency of this measurement" in finding.what
    assert (Rule.SPEEDUP, "results[1]", "speedup.value") in found(changed(FP32, samples_artifact="6b" * 32))


@pytest.mark.parametrize(("low", "high"), [(2.4, 2.6), (1.0, 2.0), (2.4, None), (None, 2.0)])
def test_an_interval_without_its_value_is_found(low: float | None, high: float | None) -> None:
    value = sample_report().results[INT8].speedup
    assert value
    finding = the(changed(INT8, speedup=replace(value, low=low, high=high)))
    assert (finding.rule, finding.where) == (Rule.INTERVAL, "speedup")


def test_a_speedup_of_one_block_has_no_interval_and_needs_none() -> None:
    value = sample_report().results[INT8].speedup
    assert value
    assert found(changed(INT8, speedup=replace(value, low=None, high=None))) == []


def test_an_end_to_end_latency_that_is_not_above_its_runtime_latency_is_found() -> None:
    report = sample_report()
    runtime = report.results[INT8]
    at = next(
        i
        for i, r in enumerate(report.results)
        if (r.engine, r.precision, r.mode) == (runtime.engine, "int8", "end2end")
    )
    assert runtime.latency_ms
    values = {"latency_ms": runtime.latency_ms, "throughput_per_s": runtime.throughput_per_s, "speedup": None}
    finding = the(without_gates(changed(at, **values)))
    assert (finding.rule, finding.where) == (Rule.END2END, "latency_ms.mean")
    assert finding.part.startswith(f"results[{at}]")
    assert "not above the runtime latency that it contains" in finding.what
    assert "(results[1])" in finding.what


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("samples_artifact", None),
        ("settings_in_effect", {}),
        ("engine_version", ""),
        ("measured_at", None),
        ("warmup", None),
        ("repeat", None),
    ],
)
def test_a_figure_that_does_not_say_where_it_comes_from_is_found(field: str, value: object) -> None:
    # Without the speed-up, which could not be compared with FP32 of the same raw latencies.
    finding = the(without_gates(changed(INT8, speedup=None, **{field: value})))
    assert (finding.rule, finding.part.split(":")[0], finding.where) == (Rule.PROVENANCE, "results[1]", field)
    assert finding.what.startswith("it does not say")


def test_zero_warm_up_runs_are_a_statement() -> None:
    assert found(changed(INT8, warmup=0)) == []


def test_a_row_that_was_only_evaluated_needs_no_raw_latencies() -> None:
    evaluated = changed(
        INT8, latency_ms=None, speedup=None, samples_artifact=None, measured_at=None, settings_in_effect={}
    )
    assert found(without_gates(evaluated)) == []


def test_a_device_that_is_not_in_the_fleet_or_of_which_nothing_is_known_is_found() -> None:
    report = sample_report()
    assert found(replace(report, fleet=()))[0] == (Rule.PROVENANCE, "results[0]", "device")
    bare = replace(report, fleet=(replace(report.fleet[0], hardware={}),))
    assert found(bare) == [(Rule.PROVENANCE, "fleet[0]", "hardware")]


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"p99": 99.0}, "latency_ms.p99"),
        ({"p95": 0.1}, "latency_ms.p90"),
        ({"min": 6.5}, "latency_ms.min"),
        ({"median": 1.0}, "latency_ms.min"),
    ],
)
def test_percentiles_out_of_order_are_found(values: dict[str, float], where: str) -> None:
    assert (Rule.PERCENTILES, "results[1]", where) in found(with_latency(INT8, **values))


def test_a_mean_outside_of_the_extremes_is_found() -> None:
    assert (Rule.PERCENTILES, "results[1]", "latency_ms.mean") in found(with_latency(INT8, mean=1e6))


def test_a_throughput_that_does_not_follow_from_batch_and_mean_is_found() -> None:
    finding = the(changed(INT8, throughput_per_s=150.0))
    assert (finding.rule, finding.where) == (Rule.THROUGHPUT, "throughput_per_s")
    assert "batch 1 ÷ mean" in finding.what
    assert found(changed(INT8, throughput_per_s=None)) == []


@pytest.mark.parametrize("value", [-0.5, 100.5])
def test_an_accuracy_that_is_no_percentage_is_found(value: float) -> None:
    report = without_gates(changed(INT8, accuracy=(Accuracy("top1", value, "percent", 200),)))
    assert found(report) == [(Rule.ACCURACY, "results[1]", "accuracy.top1")]
    assert found(without_gates(changed(INT8, accuracy=(Accuracy("sqnr", value, "dB", 200),)))) == []


@pytest.mark.parametrize(
    ("gate", "where"),
    [
        (GateResult("int8.top1_drop <= 1.0", 2.5, True), "passed"),
        (GateResult("int8.top1_drop <= 3.0", 2.5, False), "passed"),
        (GateResult("int8.top1_drop <= 3.0", 2.0, True), "value"),
        (GateResult("fp16.speedup >= 1.0", None, True), "passed"),
        (GateResult("int8.top1_drop = 1.0", 2.5, True), "expression"),
    ],
)
def test_a_gate_that_contradicts_its_value_or_the_results_is_found(gate: GateResult, where: str) -> None:
    assert found(replace(sample_report(), gates=(gate,))) == [(Rule.GATE, "gates[0]", where)]
