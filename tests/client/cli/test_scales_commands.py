"""`scales show` and `scales diff` on tables that differ in one range."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.client.cli.conftest import Run

from quantfleet_domain.calibration.graph import NumericsClass
from quantfleet_domain.calibration.scales import ActivationRow, ScalesHeader, ScaleTable, WeightRow


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    numerics = NumericsClass("onnxruntime-cpu", "1", "x86-64/avx2", "1" * 64, "4" * 64, "3" * 64, 1)
    header = ScalesHeader("1" * 64, "2" * 64, "3" * 64, "absmax", None, numerics)
    rows = (
        ActivationRow("x", "x", "absmax", -1.0, 2.0, None, 4),
        ActivationRow("y", None, "absmax", 0.0, 1.0, "x", 4),
    )
    before = ScaleTable(header, rows, (WeightRow("w", "w", 0, (0.5, 0.25)),))
    after = replace(before, activations=(rows[0], replace(rows[1], hi=4.0)))
    paths = tmp_path / "a.json", tmp_path / "b.json"
    for path, table in zip(paths, (before, after), strict=True):
        path.write_bytes(table.to_json())
    return paths


def test_a_table_is_shown_with_its_ranges_and_weights(tables: tuple[Path, Path], run: Run) -> None:
    lines = [line.split() for line in run("scales", "show", tables[0]).out.splitlines()]
    assert ["y", "0", "1", "absmax", "x"] in lines
    assert ["w", "0", "2", "0.5"] in lines
    assert run("scales", "show", tables[0], "--json").json["activations"][1]["tied_to"] == "x"


def test_equal_tables_differ_in_nothing_and_the_exit_code_says_so(tables: tuple[Path, Path], run: Run) -> None:
    same = run("scales", "diff", tables[0], tables[0])
    assert (same.code, same.out) == (0, "the tables say the same\n")


def test_a_range_that_moved_is_shown_with_how_far(tables: tuple[Path, Path], run: Run) -> None:
    ran = run("scales", "diff", *tables)
    assert ran.code == 1
    assert ["y", "[0,", "1]", "[0,", "4]", "75.00%"] in [line.split() for line in ran.out.splitlines()]
    (change,) = run("scales", "diff", *tables, "--json").json["activations_changed"]
    assert change["tensor"] == "y"


def test_a_file_that_is_no_table_is_named(tmp_path: Path, run: Run) -> None:
    (tmp_path / "no.json").write_text("{}")
    ran = run("scales", "show", tmp_path / "no.json")
    assert ran.code == 2
    assert "no.json" in ran.err
