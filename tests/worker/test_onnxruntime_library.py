"""Two distributions share the name `onnxruntime`: what is told is whose files are there."""

import sys
from importlib import metadata
from pathlib import Path

import pytest

from quantfleet_worker.onnxruntime_library import Installed, installed


def test_the_installed_distribution_is_the_one_that_is_imported() -> None:
    import onnxruntime

    assert installed() == Installed("onnxruntime", onnxruntime.__version__)
    assert onnxruntime.__version__ == metadata.version("onnxruntime")


@pytest.mark.parametrize("distribution", ["onnxruntime", "onnxruntime-gpu"])
def test_of_two_distributions_that_lie_over_each_other_the_later_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distribution: str
) -> None:
    for name in ("onnxruntime", "onnxruntime_gpu"):
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
    (tmp_path / "onnxruntime/capi").mkdir(parents=True)
    (tmp_path / "onnxruntime/__init__.py").write_text("raise ImportError('it is not to be imported')")
    note = f"package_name = '{distribution}'\n__version__ = '9.9.9'\ncuda_version = '13.0'\n"
    (tmp_path / "onnxruntime/capi/build_and_package_info.py").write_text(note)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in [name for name in sys.modules if name.partition(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    assert installed() == Installed(distribution, "9.9.9")


def test_nothing_installed_is_nothing_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in [name for name in sys.modules if name.partition(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    assert installed() is None
