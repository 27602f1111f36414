"""What a command leaves: files whole or not at all, and an exit code that a script can rely on."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.domain.reporting.sample_reports import failed_report, sample_report

from quantfleet.following import default_directory, exit_code
from quantfleet.outputs import write_atomically, write_report
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.reporting.report import GateResult


def test_the_exit_code_is_0_for_success_1_for_less_and_3_for_a_missed_gate_alone() -> None:
    good = replace(sample_report(), gates=(GateResult("int8.speedup >= 1", 2.0, True),))
    good = replace(good, job=replace(good.job, state="succeeded"))
    missed = replace(good, gates=(*good.gates, GateResult("int8.speedup >= 9", 2.0, False)))
    partial = replace(missed, job=replace(missed.job, state="partial"))
    assert [exit_code(report) for report in (good, missed, partial, failed_report())] == [0, 3, 1, 1]


def test_a_file_is_replaced_whole_and_its_mode_follows_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [child.name for child in path.parent.iterdir()] == ["b.json"]
    other = tmp_path / "plain"
    other.write_bytes(b"")
    assert path.stat().st_mode == other.stat().st_mode


def test_a_file_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(QuantfleetError, match="taken") as raised:
        write_atomically(tmp_path / "taken", b"new")
    assert raised.value.code is ErrorCode.STORE_FAILED
    assert [child.name for child in tmp_path.iterdir()] == ["taken"]


def test_report_json_is_written_byte_by_byte_as_it_came(tmp_path: Path) -> None:
    report = sample_report()
    content = report.to_json() + b"\n"
    page = write_report(tmp_path, report, content)
    assert page == tmp_path / "report.html"
    assert (tmp_path / "report.json").read_bytes() == content
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.md", "report.csv", "report.html"}


@pytest.mark.parametrize(("name", "folder"), [("a", "a"), ("a/b c", "a-b-c"), ("../x", "-x"), ("..", "job")])
def test_a_name_never_leads_out_of_the_default_directory(name: str, folder: str) -> None:
    assert default_directory(name) == Path("quantfleet-report") / folder
