"""`quantfleet check` tells faults from notes, by its words and by its exit code."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.client.cli.conftest import Run
from tests.domain.reporting.checking.published_figures import QUANTIZATION_AWARE, fastest_int8_file, folded
from tests.domain.reporting.sample_reports import sample_report

from quantfleet_domain.reporting.markdown import to_markdown
from quantfleet_domain.reporting.report import GateResult


def written(tmp_path: Path, name: str, text: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_published_file_is_answered_by_table_faults_first_and_then_counted(run: Run, tmp_path: Path) -> None:
    ran = run("check", written(tmp_path, "seg.md", QUANTIZATION_AWARE))
    assert ran.code == 1
    beginnings = (
        "table 1, line 3",
        "  fault, speedup: DNLNet, INT8: Speed-up of quantization: 52.5% should be 34.4% = 1",
        "  fault, speedup: PSPNet, INT8: Speed-up of quantization: 32.1% should be 31.2% = 1",
        "",
        "table 1, line 3",
        "  note, definition: Speed-up of quantization: what is called speed-up is the reduction of latency",
        "",
        "2 faults, 1 note; judged: tables 1, derived cells 7, end2end latencies 0",
    )
    for line, beginning in zip(ran.out.splitlines(), beginnings, strict=True):
        assert line.startswith(beginning)


def test_with_json_every_finding_is_an_object(run: Run, tmp_path: Path) -> None:
    path = written(tmp_path, "one-line.md", folded(fastest_int8_file()))
    ran = run("check", path, "--json")
    assert ran.code == 1
    assert (ran.json["file"], ran.json["faults"]) == (str(path), 10)
    assert ran.json["judged"] == {"tables": 8, "derived_cells": 48, "end2end_latencies": 66}
    assert ran.json["findings"][0] == {
        "severity": "fault",
        "rule": "speedup",
        "part": "table 1, line 1: Detectors > Runtime Benchmark",
        "where": "YOLOv5s, ONNX Runtime, CPU: Max speed-up",
        "what": "1.90 should be 1.92 = 176.41 ÷ 91.90 (FP32 ÷ fastest INT8)",
    }


def test_our_own_report_is_clean_in_both_forms(run: Run, tmp_path: Path) -> None:
    report = sample_report()
    as_json = run("check", written(tmp_path, "report.json", report.to_json()))
    assert (as_json.code, as_json.out) == (0, "0 faults, 0 notes; judged: results 8, gates 3\n")
    as_tables = run("check", written(tmp_path, "report.md", to_markdown(report)))
    assert (as_tables.code, as_tables.out.split(";")[0]) == (0, "0 faults, 0 notes")


def test_notes_alone_leave_the_exit_code_at_zero(run: Run, tmp_path: Path) -> None:
    table = "| Model | FP32 latency | INT8 latency |\n|---|---|---|\n| a | 2 | 1 |\n"
    ran = run("check", written(tmp_path, "bare.md", table))
    assert ran.code == 0
    assert "note, unit: FP32 latency" in ran.out


def test_a_report_is_known_by_its_content_whatever_it_is_called(run: Run, tmp_path: Path) -> None:
    report = replace(sample_report(), gates=(GateResult("int8.top1_drop <= 1.0", 2.5, True),))
    ran = run("check", written(tmp_path, "saved", report.to_json()))
    assert ran.code == 1
    assert "fault, gate: passed: it says passed; a value of 2.5 is missed" in ran.out


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("nowhere.md", None, "cannot be read: No such file or directory"),
        ("other.json", b'{"schema": "other"}', "this is no report: its schema is 'other'"),
        ("list.json", b"[1]", "this is no report"),
        ("broken.json", b"| a | b |", "the report is not JSON"),
        ("brace.md", b"{", "the report is not JSON"),
        ("words.md", b"only words", "neither a report.json nor a Markdown file with a table"),
        ("picture.png", b"\x89PNG\xff\xfe", "neither a report.json nor UTF-8 text"),
    ],
)
def test_what_cannot_be_judged_is_bad_input_and_named(
    run: Run, tmp_path: Path, name: str, data: bytes | None, what: str
) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    ran = run("check", path)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith(f"error: {path}")
    assert what in ran.err
    assert json.loads(run("check", path, "--json").out)["error"]["code"] == "report-invalid"


def test_a_heading_cannot_drive_the_terminal(run: Run, tmp_path: Path) -> None:
    table = "# bad\x1b[2J\n| Model | FP32 latency |\n|---|---|\n| a | 2 |\n"
    assert "\x1b" not in run("check", written(tmp_path, "bad.md", table)).out
