"""What a row of a latency table stands for: of which precision its accuracy is, and of which form its figures."""

from dataclasses import replace

from tests.domain.reporting.sample_reports import sample_report

from quantfleet_domain.reporting.markdown import to_markdown
from quantfleet_domain.reporting.report import Accuracy
from quantfleet_domain.reporting.table import tables


def test_the_accuracy_under_int8_is_that_of_plain_int8_where_there_is_one_else_it_is_told() -> None:
    report = sample_report()
    fp32, int8 = report.results[:2]
    mixed = replace(int8, precision="int8+fp16", accuracy=(Accuracy("top1", 12.5, "percent", 200),))
    (row,) = tables(replace(report, results=(fp32, mixed, int8)))[0].rows
    assert (row.accuracies[row.judged], row.judged) == (56.0, "int8")
    alone = replace(report, results=(fp32, mixed))
    (row,) = tables(alone)[0].rows
    assert (row.accuracies[row.judged], row.judged) == (12.5, "int8+fp16")
    assert "The Top-1 under INT8 is that of another precision: mobilenet on onnxruntime-cpu (INT8+FP16)." in (
        to_markdown(alone)
    )


def test_two_rows_that_only_their_form_tells_apart_name_it() -> None:
    report = sample_report()
    pair = report.results[:2]
    other = tuple(replace(r, form=r.form and "table", samples_artifact="ab" * 32) for r in pair)
    assert [row.method for row in tables(replace(report, results=pair))[0].rows] == ["static, mse"]
    both = tables(replace(report, results=(*pair, *other)))[0].rows
    assert [row.method for row in both] == ["static, mse, u8-affine", "static, mse, table"]


def test_a_row_never_holds_figures_of_two_measurements() -> None:
    report = sample_report()
    again = tuple(
        replace(r, samples_artifact="6b" * 32, latency_ms=replace(r.latency_ms, mean=2 * r.latency_ms.mean))
        for r in report.results
        if r.precision == "fp32" and r.latency_ms
    )
    before, after = tables(report), tables(replace(report, results=(*report.results, *again)))
    for one, both in zip(before, after, strict=True):
        assert [row.max_speedup for row in both.rows if "int8" in row.cells] == [row.max_speedup for row in one.rows]
        assert len(both.rows) == 2 * len(one.rows)
