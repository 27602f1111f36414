import csv
import io
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domain.reporting.sample_reports import (
    failed_report,
    phone_report,
    sample_report,
    trained_report,
    tuned_report,
    two_model_report,
)

from quantfleet_domain.jobs.spec import METRICS
from quantfleet_domain.reporting import words
from quantfleet_domain.reporting.csv import to_csv
from quantfleet_domain.reporting.markdown import to_markdown
from quantfleet_domain.reporting.report import Accuracy, FleetDevice, Report
from quantfleet_domain.reporting.sections import latencies
from quantfleet_domain.reporting.table import METRIC_LABELS, hardware_names, round_ms, tables
from quantfleet_domain.reporting.words import MISSING

FIELD_FORM = (
    "| Model | Engine | Hardware | FP32 [ms] | FP16 [ms] | INT8 [ms] | INT8+FP16 [ms] | INT8+FP16+PM [ms] "
    "| Max speed-up | Top-1 FP32 | Top-1 INT8 | Method |"
)


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_there_is_one_table_per_mode() -> None:
    first, second = tables(sample_report())
    assert (first.mode, first.threads, first.batch) == ("runtime", 1, 1)
    assert (second.mode, second.threads, second.batch) == ("end2end", 1, 1)
    assert [row.engine for row in first.rows] == ["onnxruntime-cpu", "paddle-cpu"]


def test_another_number_of_threads_is_another_table() -> None:
    report = sample_report()
    swept = replace(report, results=report.results + tuple(replace(r, threads=2) for r in report.results))
    assert [(t.mode, t.threads) for t in tables(swept)] == [
        ("runtime", 1),
        ("runtime", 2),
        ("end2end", 1),
        ("end2end", 2),
    ]


def test_models_that_are_judged_by_another_metric_have_tables_of_their_own() -> None:
    report = two_model_report()
    first, *_ = (result.model for result in report.results)

    def judged(metric: str) -> tuple[Accuracy, ...]:
        return (Accuracy(metric, 50.0, "percent", 4),)

    mixed = replace(
        report,
        results=tuple(replace(r, accuracy=judged("top1" if r.model == first else "map")) for r in report.results),
    )
    found = tables(mixed)
    assert {(table.metric, row.model == first) for table in found for row in table.rows} == {
        ("top1", True),
        ("map", False),
    }
    assert all(row.accuracies["fp32"] == 50.0 for table in found for row in table.rows)
    assert found[0].title.endswith(", judged by Top-1")
    assert len(found) == 2 * len(tables(report))


def test_the_parts_of_a_run_are_shown_where_a_device_has_a_clock() -> None:
    report = sample_report()
    assert "Parts of a run" not in to_markdown(report)
    parts = {"h2d": 0.25, "compute": 1.5, "d2h": 0.125}
    timed = replace(report, results=(replace(report.results[0], parts_ms=parts), *report.results[1:]))
    assert "| 0.2500 | 1.500 | 0.1250 |" in to_markdown(timed)
    (line, *_) = csv.DictReader(io.StringIO(to_csv(timed)))
    assert (line["h2d_ms"], line["compute_ms"], line["d2h_ms"]) == ("0.25", "1.5", "0.125")


def test_the_max_speedup_follows_from_the_cells_as_written() -> None:
    checked = 0
    for line in to_markdown(two_model_report()).splitlines():
        cells = cells_of(line)
        if len(cells) == 12 and cells[2].startswith("Intel"):
            checked += 1
            fastest = min(float(cell) for cell in (cells[5], cells[6], cells[7]) if cell != words.MISSING)
            assert f"{float(cells[3]) / fastest:.2f}" == cells[8]
    assert checked == 8


@settings(deadline=None)
@given(st.floats(1e-4, 1e5))
def test_a_cell_is_written_as_exactly_as_it_is_rounded(value: float) -> None:
    rounded = round_ms(value)
    assert float(words.milliseconds(rounded)) == rounded
    assert rounded == pytest.approx(value, rel=1e-3, abs=1e-4)


def test_the_markdown_has_the_fields_table_form() -> None:
    markdown = to_markdown(sample_report())
    assert markdown.count(FIELD_FORM) == 2
    assert "| 56.50 | 54.00 | static, mse |" in markdown


def test_the_tables_and_the_csv_show_the_metrics_of_whatever_kind_the_model_is() -> None:
    report = sample_report()
    figures = {
        precision: (Accuracy("map", value, "percent", 50),) for precision, value in (("fp32", 40.5), ("int8", 39))
    }
    judged = replace(report, results=tuple(replace(r, accuracy=figures[r.precision]) for r in report.results))
    markdown = to_markdown(judged)
    assert "| mAP FP32 | mAP INT8 |" in markdown
    assert "| 40.50 | 39.00 | static, mse |" in markdown
    assert to_csv(judged).splitlines()[0].endswith(",map_percent")
    assert METRIC_LABELS.keys() == set(METRICS)


def test_the_markdown_says_protocol_gates_absences_hardware_and_provenance() -> None:
    markdown = to_markdown(sample_report())
    for expected in (
        "200 warm-up runs, then 1000 timed runs in 20 blocks",
        "| int8.top1_drop \\<= 1.0 | 2.5 | missed |",
        "no node of pool t4 came within 600 s",
        "not applicable: paddle-cpu does not offer fp16",
        "Intel(R) Xeon(R) Gold 6271C",
        "fc7 (MatMul): output left in float",
        "c0" * 32,
        "affinity cpu 2",
        "noisy: CPU time of other processes: 12.0%, limit 5.0%",
    ):
        assert expected in markdown


def test_the_markdown_says_how_ranges_and_biases_were_made() -> None:
    markdown = to_markdown(tuned_report())
    for expected in (
        "| 56.50 | 54.00 | static, auto: entropy |",
        "| mobilenet | auto: entropy | 100 (60 recalled) | 4 | 41.7 | numpy (the compiled tap is not in use: no",
        " compiler); tap | 27 layers in 5 stages",
        "| 27 layers in 5 stages, on 100 samples, 12.5 s | u8s8: conv1: 8.1 dB |",
        "## What auto chose from",
        "| mobilenet | entropy | 26.12 | chosen |\n| mobilenet | auto | 25.70 |  |\n| mobilenet | absmax | 24.25 |  |",
        "## Samples that drive ranges",
        "| mobilenet | lamp of mobilenet.jpg | 12 | relu1 | 41.5 | 20.25 |",
        "| bias corrections of mobilenet | " + "b1" * 32,
    ):
        assert expected in markdown


def test_a_plain_calibration_has_no_tables_of_what_it_lacks() -> None:
    markdown = to_markdown(sample_report())
    assert "| mobilenet | mse | 100 | 4 | 41.7 | — | none | none |" in markdown
    for title in ("What auto chose from", "Samples that drive ranges", "recalled"):
        assert title not in markdown


def test_a_calibrators_parameter_is_shown() -> None:
    report = sample_report()
    calibration = replace(report.calibration["mobilenet"], calibrator="percentile", parameter=99.9999)
    markdown = to_markdown(replace(report, calibration={"mobilenet": calibration}))
    assert "| mobilenet | percentile 99.9999 | 100 |" in markdown


def test_every_row_of_every_markdown_table_has_as_many_cells_as_its_header() -> None:
    hostile = tuned_report("a|b\n<script>`x`")
    width = 0
    for line in to_markdown(hostile).splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        width = width or len(cells_of(line))
        assert len(cells_of(line)) == width
    assert "<script>" not in to_markdown(hostile).replace("\\<script", "")


def test_what_is_absent_is_told_with_how_it_would_have_been_quantized() -> None:
    absent = to_markdown(sample_report()).split("## What is absent, and why")[1]
    assert "| tensorrt | INT8 static |" in absent
    assert "| paddle-cpu | FP16 |" in absent


def test_a_job_that_failed_still_has_a_report() -> None:
    markdown = to_markdown(failed_report())
    assert "mobilenet.onnx is not an ONNX model" in markdown
    assert "latency" not in markdown.split("## ")[0]
    assert to_csv(failed_report()).count("\n") == 1


def test_two_quantizations_are_two_rows_that_share_their_fp32_cell() -> None:
    report = sample_report()
    more = tuple(replace(r, quantization="qat") for r in report.results if r.precision == "int8")
    table = tables(replace(report, results=report.results + more))[0]
    assert [row.method for row in table.rows] == ["static, mse", "qat", "static, mse", "qat"]
    assert table.rows[0].cells["fp32"] == table.rows[1].cells["fp32"]


def test_each_quantization_has_its_own_accuracy_and_speedup_beside_the_same_fp32() -> None:
    static, qat = tables(trained_report())[0].rows[:2]
    assert (static.method, qat.method) == ("static, mse", "qat")
    assert static.accuracies == {"fp32": 56.5, "int8": 56.0}
    assert qat.accuracies == {"fp32": 56.5, "int8": 56.5}
    assert static.max_speedup == qat.max_speedup


def test_the_markdown_says_how_a_training_went_and_what_was_taken() -> None:
    assert "| mobilenet | qat | 200 | 2 | 400 | 93.5 | 2.25 → 0.5 | iteration 100, Top-1 56.25 % |" in to_markdown(
        trained_report()
    )
    assert "## Training" not in to_markdown(sample_report())


def test_the_markdown_says_what_ran_in_int8_and_what_was_converted_between_nodes() -> None:
    markdown = to_markdown(trained_report())
    assert "| INT8 static | 26 of 28 | conv1 (Conv); fc7 (MatMul) | fc7 (MatMul): output left in float" in markdown
    assert "| INT8 qat | 26 of 28 | conv1 (Conv) |" in markdown
    assert "| INT8 static | 1 thread | QuantizeLinear | 3 | 12.5% |" in markdown
    assert "| INT8 qat | 1 thread | ReorderInput | 2 | — |" in markdown
    assert "Conversions between nodes" not in to_markdown(sample_report())


def test_the_csv_tells_quantizations_apart() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(trained_report()))))
    found = {(row["quantization"], row["form"], row["top1_percent"]) for row in rows if row["engine"] == "paddle-cpu"}
    assert found == {("none", "", "56.5"), ("static", "u8-affine", "54.0"), ("qat", "s8-symmetric", "54.5")}


def test_a_noisy_measurement_of_several_quantizations_is_told_once() -> None:
    noisy = tuple(replace(r, quiet=False) for r in sample_report().results)
    more = tuple(replace(r, quantization="qat") for r in noisy if r.precision == "int8")
    (line,) = {
        line for line in to_markdown(replace(sample_report(), results=noisy + more)).splitlines() if "Noisy" in line
    }
    parts = line.split("; ")
    assert len(parts) == len(set(parts)) == 2


def test_what_is_absent_names_its_quantization() -> None:
    markdown = to_markdown(sample_report())
    assert "| tensorrt | INT8 static | — | no node of pool t4" in markdown
    assert "| paddle-cpu | FP16 | — | not applicable" in markdown


def test_a_model_without_a_quantized_result_has_no_speedup() -> None:
    report = sample_report()
    plain = replace(report, results=tuple(r for r in report.results if r.precision == "fp32"))
    row = tables(plain)[0].rows[0]
    assert row.max_speedup is None
    assert row.method == ""
    assert "int8" not in row.accuracies


def test_devices_that_share_a_name_are_told_apart() -> None:
    fleet = [FleetDevice(node, "cpu:0", {"model_name": "Xeon"}) for node in ("a", "b")] + [FleetDevice("c", "x", {})]
    assert hardware_names(fleet) == {
        ("a", "cpu:0"): "Xeon (a/cpu:0)",
        ("b", "cpu:0"): "Xeon (b/cpu:0)",
        ("c", "x"): "c/x",
    }


def test_the_csv_has_one_line_a_result_and_units_in_its_columns() -> None:
    report = sample_report('quoted "name", with comma')
    rows = list(csv.DictReader(io.StringIO(to_csv(report))))
    assert len(rows) == len(report.results)
    for row, result in zip(rows, report.results, strict=True):
        assert result.latency_ms is not None
        assert row["model"] == result.model
        assert float(row["latency_p99_ms"]) == result.latency_ms.p99
        assert row["speedup_ratio"] == (str(result.speedup.value) if result.speedup else "")
        assert float(row["top1_percent"]) == result.accuracy[0].value


def test_what_a_phone_does_not_tell_is_an_empty_cell_or_a_dash() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(phone_report()))))
    assert rows
    for row in rows:
        assert float(row["latency_min_ms"]) < float(row["latency_mean_ms"]) < float(row["latency_max_ms"])
        assert (row["latency_median_ms"], row["latency_p99_ms"], row["latency_cov_ratio"]) == ("", "", "")
    (cells, *_) = latencies(phone_report()).rows
    assert cells[-7] == cells[-1] == MISSING


def test_rendering_is_the_same_after_a_round_trip() -> None:
    for report in (two_model_report(), tuned_report(), trained_report()):
        again = Report.from_json(report.to_json())
        assert to_markdown(again) == to_markdown(report)
        assert to_csv(again) == to_csv(report)
