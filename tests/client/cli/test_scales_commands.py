"""The `scales` commands: on tables that differ in one range, and there and back through a TensorRT cache."""

import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from tests.client.cli.conftest import Run
from tests.worker.onnx_networks import classifier, saved

from quantfleet_domain.calibration.graph import NumericsClass
from quantfleet_domain.calibration.scales import ActivationRow, ScalesHeader, ScaleTable, WeightRow
from quantfleet_wire.content import digest_file


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


def exported(table: Path, run: Run, *words: str) -> Path:
    """The cache that a table is exported as, beside it."""
    path = table.with_suffix(".cache")
    ran = run("scales", "export", table, "--form", "tensorrt-cache", "--out", path, *words)
    assert ran.code == 0, ran.err
    return path


def test_a_table_is_exported_as_a_calibration_cache_by_either_name(tables: tuple[Path, Path], run: Run) -> None:
    text = exported(tables[0], run, "--tensorrt-version", "8401").read_text()
    assert text == "TRT-8401-EntropyCalibration2\nx: 3c810204\ny: 3c010204\n"
    out = tables[0].parent / "native.cache"
    words = ("scales", "export", tables[0], "--form", "tensorrt-cache", "--out", out, "--tensorrt-version", "8401")
    ran = run(*words, "--names", "native")
    assert ran.code == 2
    assert "'y' has no name in the submitted model" in ran.err
    assert not out.exists()


def test_the_version_of_a_cache_is_not_made_up(tables: tuple[Path, Path], run: Run) -> None:
    words = ("scales", "export", tables[0], "--form", "tensorrt-cache", "--out", tables[0].with_name("a.cache"))
    assert "--tensorrt-version 8401" in run(*words).err
    assert run(*words, "--tensorrt-version", "8.4.1").code == 2


def test_ranges_go_out_and_come_back_through_a_cache(tmp_path: Path, run: Run) -> None:
    model, first, second = saved(classifier(), tmp_path), tmp_path / "first.json", tmp_path / "second.json"
    names = ("image", "pooled", "deep.relu6", "wide", "sum.relu", "side.relu", "averaged")
    lines = [f"{name}: 3c81020{digit}" for digit, name in enumerate(names)]
    (tmp_path / "a.cache").write_text("\n".join(["TRT-8401-MinMaxCalibration", *lines]))
    ran = run("scales", "import", tmp_path / "a.cache", "--model", model, "--out", first, "--json")
    assert ran.json["activations"] == 8
    table = ScaleTable.from_json(first.read_bytes())
    assert (table.header.model, table.sha256) == (digest_file(model), ran.json["sha256"])
    assert table.header.manifest == f"imported:{digest_file(tmp_path / 'a.cache')}"
    cache = exported(first, run)
    assert cache.read_text().startswith("TRT-8401-MinMaxCalibration\n")
    assert run("scales", "import", cache, "--model", model, "--out", second).code == 0
    again = ScaleTable.from_json(second.read_bytes())
    assert again.activations == table.activations


def test_a_cache_of_another_model_is_refused_with_the_tensors_that_it_lacks(tmp_path: Path, run: Run) -> None:
    (tmp_path / "a.cache").write_text("TRT-8401-EntropyCalibration2\nother: 3f800000\n")
    out = tmp_path / "scales.json"
    ran = run("scales", "import", tmp_path / "a.cache", "--model", saved(classifier(), tmp_path), "--out", out)
    assert ran.code == 2
    assert "no range for 8 of 8 tensors of the model: 'image'" in ran.err
    assert not out.exists()


@pytest.fixture
def of_a_model(tmp_path: Path, run: Run) -> tuple[Path, Path]:
    """A model, and a table of it whose ranges have two different ends."""
    model, path = saved(classifier(), tmp_path), tmp_path / "own.json"
    names = ("image", "pooled", "deep.relu6", "wide", "sum.relu", "side.relu", "averaged")
    lines = [f"{name}: 3c81020{digit}" for digit, name in enumerate(names)]
    (tmp_path / "a.cache").write_text("\n".join(["TRT-8401-MinMaxCalibration", *lines]))
    assert run("scales", "import", tmp_path / "a.cache", "--model", model, "--out", path).code == 0
    table = ScaleTable.from_json(path.read_bytes())
    halved = tuple(replace(row, lo=row.lo / 2) for row in table.activations)
    path.write_bytes(replace(table, activations=halved).to_json())
    return model, path


def test_ranges_go_out_as_an_onnx_model_and_come_back(of_a_model: tuple[Path, Path], tmp_path: Path, run: Run) -> None:
    model, path = of_a_model
    out, again = tmp_path / "int8.onnx", tmp_path / "again.json"
    assert run("scales", "export", path, "--form", "onnx", "--model", model, "--out", out).code == 0
    onnx.checker.check_model(onnx.load(out))
    assert run("scales", "import", out, "--model", model, "--out", again).code == 0
    before, after = (ScaleTable.from_json(p.read_bytes()).activations for p in (path, again))
    assert [row.tensor for row in before] == [row.tensor for row in after]
    for one, other in zip(before, after, strict=True):
        step = (one.hi - one.lo) / 255
        # A zero point is a whole number, so a range moves by up to half a step; its width does not.
        assert other.hi - other.lo == pytest.approx(one.hi - one.lo, rel=1e-6)
        assert other.hi == pytest.approx(one.hi, abs=step * 0.51)


def test_the_form_of_tensorrt_leaves_in_float_what_it_fuses(
    of_a_model: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    model, path = of_a_model
    out, again = tmp_path / "int8.onnx", tmp_path / "again.json"
    assert run("scales", "export", path, "--form", "onnx", "--model", model, "--int8", "s8s8", "--out", out).code == 0
    ran = run("scales", "import", out, "--model", model, "--out", again)
    assert (ran.code, "no range for 1 of 8 tensors of the model: 'wide'" in ran.err) == (2, True)


def test_an_export_wants_the_very_model_of_the_table(
    of_a_model: tuple[Path, Path], tables: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    model, path = of_a_model
    out = tmp_path / "int8.onnx"
    ran = run("scales", "export", path, "--form", "onnx", "--out", out)
    assert (ran.code, "give the table's FP32 model" in ran.err) == (2, True)
    ran = run("scales", "export", tables[0], "--form", "onnx", "--model", model, "--out", out)
    assert ran.code == 2
    ran = run("scales", "export", path, "--form", "onnx", "--model", model, "--int8", "u8", "--out", out)
    assert (ran.code, "u8s8-paired" in ran.err) == (2, True)
    ran = run("scales", "export", path, "--form", "paddle", "--model", model, "--out", out)
    assert (ran.code, "is an onnx model" in ran.err) == (2, True)
    assert not out.exists()


def test_an_export_for_phones_wants_an_interpreter_and_a_paddle_model(
    of_a_model: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    model, path = of_a_model
    out = tmp_path / "net.nb"
    words = ("scales", "export", path, "--form", "paddle-lite", "--out", out)
    ran = run(*words, "--model", model)
    assert (ran.code, "--opt-interpreter PYTHON" in ran.err) == (2, True)
    ran = run(*words, "--opt-interpreter", sys.executable)
    assert (ran.code, "--model MODEL" in ran.err) == (2, True)
    ran = run(*words, "--opt-interpreter", sys.executable, "--model", model)
    assert (ran.code, "is an onnx model, and --form paddle-lite writes a Paddle one" in ran.err) == (2, True)
    assert not out.exists()
