"""Where an exported Paddle model goes: nothing that is there already is touched."""

from pathlib import Path

import pytest

from quantfleet_domain.calibration.numerics import NumericsClass
from quantfleet_domain.calibration.scales import ScalesHeader, ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.scale_export import export_paddle

NUMERICS = NumericsClass("onnxruntime-cpu", "1.0", "x86_64/avx2", "m", "r", "none", 1)
TABLE = ScaleTable(ScalesHeader("m", "", "", "absmax", None, NUMERICS), (), ())


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_what_is_there_already_stays_and_is_told(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    kept = out / "thesis.txt" if kind == "directory" else out
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("years of work")
    with pytest.raises(QuantfleetError, match="something at") as caught:
        export_paddle(TABLE, tmp_path / "model", "s8-symmetric", out)
    assert caught.value.code is ErrorCode.USAGE
    assert kept.read_text() == "years of work"


def test_an_empty_directory_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(QuantfleetError) as caught:
        export_paddle(TABLE, tmp_path / "model", "s8-symmetric", tmp_path / "out")
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND
