"""Where the compiled tap is not to be trusted, the task goes on with numpy and says why."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from onnx import helper
from tests.contract.statistic_contract import NUMERICS, network, observing

from quantfleet_worker.collecting import tap_library
from quantfleet_worker.collecting.choice import collector

SOURCES = Path(tap_library.__file__).parent


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another path for the library, and no memory of the real one."""
    monkeypatch.setattr(tap_library, "LIBRARY", tmp_path / "_tap.so")
    tap_library.load.cache_clear()
    yield tmp_path / "_tap.so"
    tap_library.load.cache_clear()


def digest() -> str:
    """What the real library says that it was compiled from."""
    content = (SOURCES / "_tap.so").read_bytes()
    return next(word for word in content.decode("latin-1").split("\0") if len(word) == 64 and word.isalnum())


def compiled(path: Path, source: str, source_digest: str) -> None:
    (path.parent / "source.c").write_text(source)
    command = ["cc", "-O3", "-fPIC", "-shared", f"-I{SOURCES}", f'-DSOURCE_DIGEST="{source_digest}"']
    subprocess.run([*command, "-o", str(path), str(path.parent / "source.c")], check=True)


def chosen(folder: Path) -> str:
    path = network(folder, [helper.make_node("Neg", ["x"], ["y"])], ["y"])
    return collector(path, observing("x", "y"), NUMERICS).name


def test_a_library_that_was_never_compiled_is_named_as_the_reason(stand_in: Path, tmp_path: Path) -> None:
    assert chosen(tmp_path) == (
        "numpy (the compiled tap is not in use: it was not compiled when quantfleet was installed)"
    )


def test_a_file_that_is_no_library_is_not_used(stand_in: Path, tmp_path: Path) -> None:
    stand_in.write_bytes(b"no library")
    assert "it cannot be loaded" in chosen(tmp_path)


def test_a_library_of_other_sources_is_not_used(stand_in: Path, tmp_path: Path) -> None:
    compiled(stand_in, '#include "tap.c"', "0" * 64)
    assert "compiled from other sources" in chosen(tmp_path)


def test_a_library_that_crashes_takes_no_task_down(stand_in: Path, tmp_path: Path) -> None:
    source = (SOURCES / "tap.c").read_text().replace("status = run(made, input, shape);", "abort();")
    compiled(stand_in, source, digest())
    assert "its self-test failed (-6)" in chosen(tmp_path)


@pytest.mark.parametrize(("right", "wrong"), [("channels - whole", "block"), ("value < least ?", "value > least ?")])
def test_a_library_that_miscounts_is_not_used(stand_in: Path, tmp_path: Path, right: str, wrong: str) -> None:
    source = (SOURCES / "counting.h").read_text()
    assert right in source
    shutil.copy(SOURCES / "onnxruntime_abi.h", tmp_path)
    (tmp_path / "counting.h").write_text(source.replace(right, wrong))
    compiled(stand_in, (SOURCES / "tap.c").read_text(), digest())
    assert "its self-test failed (1)" in chosen(tmp_path)


def test_a_library_that_onnxruntime_refuses_is_not_used(stand_in: Path, tmp_path: Path) -> None:
    source = (SOURCES / "tap.c").read_text().replace("GetApi(ORT_VERSION)", "GetApi(9999)")
    compiled(stand_in, source, digest())
    assert "its self-test failed (1)" in chosen(tmp_path)
