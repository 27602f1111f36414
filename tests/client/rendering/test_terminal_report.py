import io
from dataclasses import replace

from rich.console import Console
from tests.domain.reporting.sample_reports import failed_report, sample_report

from quantfleet.rendering.terminal import print_report
from quantfleet_domain.reporting.report import Report


def printed(report: Report, *, terminal: bool, width: int = 80) -> str:
    out = io.StringIO()
    print_report(report, Console(file=out, force_terminal=terminal, width=width, color_system="standard"))
    return out.getvalue()


def test_elsewhere_than_on_a_terminal_it_is_plain_and_never_wrapped() -> None:
    text = printed(sample_report(), terminal=False, width=40)
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())
    row = next(line for line in text.splitlines() if line.startswith("mobilenet  onnxruntime-cpu"))
    assert row.split()[-2:] == ["static,", "mse"]
    assert "Intel(R) Xeon(R) Gold 6271C CPU @ 2.60GHz      13.40      5.899" in row


def test_a_terminal_of_eighty_columns_holds_every_figure() -> None:
    text = printed(sample_report(), terminal=True)
    rows = [line for line in text.splitlines() if line.startswith("mobilenet  onnxruntime-cpu")]
    assert len(rows) == 2
    for figure in ("13.40", "5.899", "2.27", "56.50", "56.00", "static, mse"):
        assert figure in rows[0]
    assert text.count("Intel(R) Xeon(R) Gold 6271C") == 2


def test_a_missed_gate_stands_out_on_a_terminal() -> None:
    assert "\x1b[1;31mmissed" in printed(sample_report(), terminal=True)


def test_a_name_can_neither_drive_the_terminal_nor_be_taken_for_markup() -> None:
    report = sample_report("[red]m\x1b[2J\nx[/red]")
    for terminal in (True, False):
        text = printed(report, terminal=terminal, width=200)
        assert "\x1b[2J" not in text
        assert "[red]m\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}x[/red]" in text


def test_a_failed_job_says_why() -> None:
    text = printed(failed_report(), terminal=False)
    assert "broken (j-1): failed" in text
    assert "mobilenet.onnx is not an ONNX model (export it again)" in text


def test_a_report_without_gates_has_no_table_of_gates() -> None:
    assert "Gates" not in printed(replace(sample_report(), gates=()), terminal=False)
