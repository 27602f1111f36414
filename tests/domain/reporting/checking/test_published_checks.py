from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.domain.reporting.checking.published_figures import (
    ON_XEON,
    QUANTIZATION_AWARE,
    fastest_int8_file,
    folded,
)

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.reporting.checking.findings import Finding, Rule, Severity
from quantfleet_domain.reporting.checking.lint import check_markdown

STATED = "Means of 1000 runs in ms. Speed-up: FP32 ÷ INT8.\n\n"


def faults(markdown: str) -> list[Finding]:
    return list(check_markdown(markdown).of(Severity.FAULT))


def table(header: str, *rows: str) -> str:
    width = header.count("|") + 1
    return "\n".join((f"| {header} |", "|" + "---|" * width, *(f"| {row} |" for row in rows))) + "\n"


@pytest.mark.parametrize("form", [str, folded])
def test_ten_faulty_cells_among_published_figures_are_found_and_no_other(form: object) -> None:
    assert callable(form)
    checked = check_markdown(form(fastest_int8_file()))
    found = [(finding.rule, finding.where, finding.what.split()[0]) for finding in checked.findings]
    assert found == [
        (Rule.SPEEDUP, "YOLOv5s, ONNX Runtime, CPU: Max speed-up", "1.90"),
        (Rule.SPEEDUP, "YOLOv5s, Paddle-TensorRT, GPU: Max speed-up", "1.28"),
        (Rule.SPEEDUP, "YOLOv6s, ONNX Runtime, CPU: Max speed-up", "2.82"),
        (Rule.SPEEDUP, "YOLOv6s, Paddle Inference, CPU: Max speed-up", "3.04"),
        (Rule.END2END, "YOLOv6s, ONNX Runtime, CPU: INT8 End2End latency", "126.38"),
        (Rule.END2END, "YOLOv6s, Paddle Inference, CPU: FP32 End2End latency", "352.87"),
        (Rule.END2END, "YOLOv6s, Paddle Inference, CPU: INT8 End2End latency", "121.64"),
        (Rule.END2END, "YOLOv7, ONNX Runtime, CPU: FP32 End2End latency", "988.85"),
        (Rule.SPEEDUP, "ppyoloe_crn_l_300e_coco, TensorRT, GPU: Max speed-up", "4.67"),
        (Rule.SPEEDUP, "ppyoloe_crn_l_300e_coco, Paddle-TensorRT, GPU: Max speed-up", "1.81"),
    ]
    assert checked.judged == {"tables": 8, "derived_cells": 48, "end2end_latencies": 66}


def test_a_finding_says_where_it_is_what_it_should_be_and_from_which_cells() -> None:
    finding = faults(folded(fastest_int8_file()))[0]
    assert finding.part == "table 1, line 1: Detectors > Runtime Benchmark"
    assert finding.what == "1.90 should be 1.92 = 176.41 ÷ 91.90 (FP32 ÷ fastest INT8)"
    other = next(finding for finding in faults(fastest_int8_file()) if finding.rule is Rule.END2END)
    assert other.part.endswith("Detectors > End2End Benchmark")
    assert "equals the runtime latency that it contains, 126.38 (table 1, INT8 Runtime latency)" in other.what


def test_percentages_that_are_a_reduction_of_latency_get_one_note_and_only_the_wrong_ones_are_faults() -> None:
    checked = check_markdown(QUANTIZATION_AWARE)
    assert [(f.rule, f.where) for f in checked.of(Severity.NOTE)] == [(Rule.DEFINITION, "Speed-up of quantization")]
    assert "reduction of latency in percent" in checked.of(Severity.NOTE)[0].what
    gain, neither = (finding.what for finding in checked.of(Severity.FAULT))
    assert gain.startswith("52.5% should be 34.4% = ")
    assert gain.endswith("it is FP32 ÷ INT8 \N{MINUS SIGN} 1, unlike the rest of the column")
    assert neither == "32.1% should be 31.2% = 1 \N{MINUS SIGN} 0.223 ÷ 0.324 (1 \N{MINUS SIGN} INT8 ÷ FP32)"


def test_ratios_of_throughputs_and_differences_of_accuracies_that_follow_are_not_accused() -> None:
    checked = check_markdown(ON_XEON)
    assert checked.findings == ()
    assert (checked.judged["tables"], checked.judged["derived_cells"]) == (4, 16)


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ("| -0.13% ", "| -0.31% ", "-0.31% should be -0.13%"),
        ("| 3.68 ", "| 3.86 ", "3.86 should be 3.68 = 26.48 ÷ 7.20 (INT8 ÷ FP32)"),
        ("| 1.76X ", "| 1.67X ", "1.67 should be 1.76 = 22.08 ÷ 12.57 (FP32 ÷ INT8)"),
    ],
)
def test_a_wrong_difference_or_ratio_is_found(right: str, wrong: str, expected: str) -> None:
    assert ON_XEON.count(right) == 1
    (fault,) = faults(ON_XEON.replace(right, wrong))
    assert expected in fault.what


# what the printed digits allow


def test_rounding_and_cutting_off_are_both_fine() -> None:
    for printed in ("1.66", "1.67", "2", "1.7", "1.6", "1.666"):
        assert (
            faults(STATED + table("Model | FP32 [ms] | INT8 [ms] | Speed-up", f"net | 5.000 | 3.000 | {printed}")) == []
        )
    for printed in ("1.65", "1.68", "1.5", "1.664", "1.669", "3"):
        assert (
            len(faults(STATED + table("Model | FP32 [ms] | INT8 [ms] | Speed-up", f"net | 5.000 | 3.000 | {printed}")))
            == 1
        )


def printed(value: Fraction, digits: int, cut: bool) -> str:
    scaled = value * 10**digits
    whole = int(scaled) if cut else round(scaled)
    return f"{whole // 10**digits}.{whole % 10**digits:0{digits}d}" if digits else str(whole)


times = st.integers(2_000, 3_000_000).map(lambda microseconds: Fraction(microseconds, 1000))
Row = tuple[Fraction, list[Fraction], list[tuple[int, bool]]]
"""FP32, INT8 figures, and for each of at most five cells its digits after the point and whether the rest is cut off."""


def rows_of(fewest_digits: int) -> st.SearchStrategy[Row]:
    ways = st.tuples(st.integers(fewest_digits, 4), st.booleans())
    return st.tuples(times, st.lists(times, min_size=1, max_size=3), st.lists(ways, min_size=5, max_size=5))


coarse_row, precise_row = rows_of(0), rows_of(2)


def published(rows: list[Row], shift: Fraction = Fraction(0)) -> str:
    """True latencies in ms, each printed in its own way; the first row's speed-up is moved by `shift`."""
    lines = []
    for at, (fp32, int8, how) in enumerate(rows):
        cells = [printed(fp32, *how[0]), *(printed(value, *way) for value, way in zip(int8, how[1:4], strict=False))]
        speedup = fp32 / min(int8) + (shift if at == 0 else 0)
        lines.append(
            " | ".join([f"net{at}", *cells, *["—"] * (3 - len(int8)), printed(speedup, 2 + how[4][0] % 2, how[4][1])])
        )
    return STATED + table("Model | FP32 [ms] | INT8 [ms] | INT8+FP16 [ms] | INT8+FP16+PM [ms] | Max speed-up", *lines)


@settings(deadline=None)
@given(st.lists(coarse_row, min_size=1, max_size=4))
def test_cells_of_true_latencies_are_clean_however_they_are_rounded(
    rows: list[Row],
) -> None:
    checked = check_markdown(published(rows))
    assert checked.findings == ()
    assert checked.judged["derived_cells"] == len(rows)


@settings(deadline=None)
@given(st.lists(precise_row, min_size=1, max_size=4), st.sampled_from((1, -1)))
def test_one_speedup_that_is_off_by_more_than_rounding_allows_is_found(rows: list[Row], sign: int) -> None:
    fp32, int8, _ = rows[0]
    # A step of 0.01 is at most 0.5 % of these latencies and, beside that, 0.02 of the speed-up.
    shift = fp32 / min(int8) * Fraction(2, 100) + Fraction(3, 100)
    assume(sign > 0 or fp32 / min(int8) > shift)
    (fault,) = faults(published(rows, sign * shift))
    assert fault.where == "net0: Max speed-up"


# other ways to publish


def test_a_speedup_from_throughputs_is_turned_round() -> None:
    assert faults(STATED + table("Model | FP32 (FPS) | INT8 (FPS) | Speedup", "a | 100 | 250 | 2.5X")) == []
    assert len(faults(STATED + table("Model | FP32 (FPS) | INT8 (FPS) | Speedup", "a | 250 | 100 | 2.5X"))) == 1


def test_where_no_header_says_of_what_the_figures_are_either_direction_is_fine_but_not_both_at_once() -> None:
    header = "Model | FP32 | INT8 | Speedup"
    assert faults(table(header, "a | 100 | 250 | 2.5x", "b | 100 | 200 | 2.0x")) == []
    assert faults(table(header, "a | 250 | 100 | 2.5x", "b | 200 | 100 | 2.0x")) == []
    assert len(faults(table(header, "a | 250 | 100 | 2.5x", "b | 200 | 100 | 2.0x", "c | 100 | 300 | 3.0x"))) == 1


def test_a_speedup_that_is_not_the_largest_may_be_that_of_plain_int8() -> None:
    header = "Model | FP32 [ms] | INT8 [ms] | INT8+FP16 [ms] | {}"
    rows = ("a | 10.0 | 5.0 | 4.0 | 2.0", "b | 12.0 | 4.0 | 3.0 | 3.0")
    assert faults(STATED + table(header.format("Speed-up"), *rows)) == []
    assert len(faults(STATED + table(header.format("Max speed-up"), *rows))) == 2


def test_each_speedup_column_goes_with_the_figures_beside_it() -> None:
    header = "Model | FP32 1t (ms) | INT8 1t (ms) | Speed-up | FP32 4t (ms) | INT8 4t (ms) | Speed-up"
    assert faults(STATED + table(header, "a | 10.0 | 5.0 | 2.00 | 4.0 | 1.0 | 4.00")) == []
    (fault,) = faults(STATED + table(header, "a | 10.0 | 5.0 | 2.50 | 4.0 | 1.0 | 4.00"))
    assert "2.50 should be 2.00 = 10.0 ÷ 5.0" in fault.what


def test_a_speedup_against_something_else_than_fp32_is_not_judged() -> None:
    header = "Model | FP32 [ms] | INT8 [ms] | Speed-up {}"
    assert faults(STATED + table(header.format("vs PyTorch"), "a | 10.0 | 5.0 | 7.00")) == []
    assert len(faults(STATED + table(header.format("over FP32"), "a | 10.0 | 5.0 | 7.00"))) == 1


def test_a_gain_in_percent_is_a_speedup_and_needs_no_remark() -> None:
    text = STATED + table(
        "Model | FP32 [ms] | INT8 [ms] | Speed-up", "a | 10.0 | 5.0 | 100.0%", "b | 9.0 | 6.0 | 50.0%"
    )
    assert check_markdown(text).findings == ()


def test_rows_of_a_long_table_are_compared_with_fp32_of_the_same_model_and_threads() -> None:
    header = "Model | Threads | Precision | Mean [ms] | Speed-up"
    rows = [
        "a | 1 | FP32 | 8.00 | —",
        "a | 1 | INT8 | 4.00 | 2.00",
        "a | 2 | FP32 | 5.00 | —",
        "a | 2 | INT8 | 2.00 | 2.50",
    ]
    assert faults(STATED + table(header, *rows)) == []
    (fault,) = faults(STATED + table(header, *rows[:-1], "a | 2 | INT8 | 2.00 | 4.00"))
    assert fault.where == "a, 2, INT8: Speed-up"


def test_two_baselines_of_one_subject_leave_nothing_to_judge() -> None:
    header = "Model | Precision | Mean [ms] | Speed-up"
    checked = check_markdown(
        STATED + table(header, "a | FP32 | 8.00 | -", "a | FP32 | 9.00 | -", "a | INT8 | 4.00 | 7.00")
    )
    assert checked.judged["derived_cells"] == 0


def test_a_percentage_in_the_header_counts_as_one_in_the_cells() -> None:
    text = STATED + table(
        "Model | FP32 [ms] | INT8 [ms] | Speed-up (%)", "a | 10.0 | 5.0 | 50.0", "b | 10.0 | 6.0 | 40.0"
    )
    (note,) = check_markdown(text).findings
    assert "reduction of latency" in note.what


# modes


def test_modes_are_told_apart_by_headings_headers_and_cells() -> None:
    by_header = table("Model | FP32 Runtime [ms] | FP32 End-to-end [ms]", "a | 5.0 | 4.9", "b | 5.0 | 6.0")
    by_cell = table("Model | Precision | Mode | Mean [ms]", "a | FP32 | runtime | 5.0", "a | FP32 | end2end | 4.9")
    one = table("Model | FP32 [ms]", "a | 5.0")
    by_heading = (
        f"## A\n### Runtime latency\n\n{one}\n### End-to-end latency\n\n{one}\n## B\n### End-to-end latency\n\n{one}"
    )
    for text in (by_header, by_cell, by_heading):
        (fault,) = faults(STATED + text)
        assert (fault.rule, fault.where.split(",")[0].split(":")[0]) == (Rule.END2END, "a")


def test_end_to_end_is_compared_in_one_unit_and_not_with_another_precision_or_extreme() -> None:
    runtime = table("Model | FP32 [ms] | INT8 [ms]", "a | 50 | 20")
    end2end = table("Model | FP32 [s/img] | INT8 [s/img]", "a | 0.070 | 0.030")
    assert faults(f"{STATED}# Runtime latency\n{runtime}\n# End2End latency\n{end2end}") == []
    extremes = table("Model | Mode | Mean [ms] | P99 [ms]", "a | runtime | 5.0 | 9.0", "a | end-to-end | 6.0 | 8.0")
    assert faults(STATED + extremes) == []


def test_onnx_runtime_is_an_engine_and_no_mode() -> None:
    cells = table("Model | FP32 [ms]", "a | 5.0")
    assert faults(f"{STATED}# End-to-end\n{cells}\n# ONNX Runtime\n{cells}") == []
    both = f"# Runtime latency in ONNX Runtime\n{cells}\n# End-to-end latency in ONNX Runtime\n{cells}"
    assert len(faults(STATED + both)) == 1


# what is not stated


def notes(markdown: str) -> list[tuple[Rule, str]]:
    return [(finding.rule, finding.where) for finding in check_markdown(markdown).of(Severity.NOTE)]


def test_a_latency_without_unit_protocol_and_definition_is_noted_and_no_fault() -> None:
    text = table("Model | FP32 latency | INT8 latency | Speed-up", "a | 10.0 | 5.0 | 2.00")
    assert notes(text) == [
        (Rule.DEFINITION, "Speed-up"),
        (Rule.PROTOCOL, "figures"),
        (Rule.UNIT, "FP32 latency"),
        (Rule.UNIT, "INT8 latency"),
    ]
    assert faults(text) == []
    assert notes(STATED + text) == []
    assert notes(f"# Speed\n{STATED}\n## Here\n{text}") == []
    assert len(notes(f"# Speed\n{STATED}\n# Elsewhere\n{text}")) == 4


def test_headers_that_name_another_mode_than_their_heading_are_noted() -> None:
    text = f"{STATED}# End-to-end\n" + table("Model | FP32 Runtime [ms] | INT8 Runtime [ms]", "a | 10.0 | 5.0")
    assert notes(text) == [(Rule.MODE, "headers of the latencies")]


def test_a_table_of_words_is_not_asked_for_a_protocol() -> None:
    assert check_markdown(table("Method | Time it takes | Latency", "static | short | the same")).findings == ()


def test_a_file_without_a_table_cannot_be_judged() -> None:
    with pytest.raises(QuantfleetError, match=r"neither a report\.json nor a Markdown file with a table") as caught:
        check_markdown("# Words\nand more | words\n")
    assert caught.value.code is ErrorCode.REPORT_INVALID
