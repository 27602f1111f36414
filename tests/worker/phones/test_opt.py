import sys
from pathlib import Path

import pytest
from tests.worker.paddle.conftest import calibrate
from tests.worker.phones.interpreters import converting, interpreter
from tests.worker.phones.lite_models import DATA, INT8, X86, saved, small_network

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_files import PaddleFiles
from quantfleet_worker.phones.export import export_nb
from quantfleet_worker.phones.opt import OptRequest, convert, installed_version

ARM = OptRequest("arm")
FATAL = (
    "[F 11/28  0:16:18.600 ...e-Lite/lite/core/model/general/op_desc.h:118 GetAttr] Check failed: it != attrs().end(): "
    "No attributes called threshold found for relu6 "
)
UNSUPPORTED = (
    "Error: This model is not supported, because 2 ops are not supported on 'arm'. "
    "These unsupported ops are: 'atan2, erfinv'."
)


def failure(interpreter_: str, scratch: Path, *, pir: bool = False) -> QuantfleetError:
    with pytest.raises(QuantfleetError) as caught:
        convert(interpreter_, PaddleFiles(scratch, "inference", pir), ARM, scratch)
    assert not list(scratch.glob("*.nb"))
    return caught.value


def test_what_opt_wrote_is_given_with_its_version_and_leaves_nothing_behind(tmp_path: Path) -> None:
    python = converting(tmp_path, repr(str(DATA / INT8)))
    converted = convert(python, PaddleFiles(tmp_path, "inference", pir=False), ARM, tmp_path)
    assert (converted.content, converted.version) == ((DATA / INT8).read_bytes(), "v2.13-rc")
    assert not list(tmp_path.glob("*.nb"))


def test_an_interpreter_that_is_not_there_is_named_with_how_to_get_one(tmp_path: Path) -> None:
    error = failure(str(tmp_path / "python3.10"), tmp_path)
    assert error.code is ErrorCode.ENGINE_MISSING
    assert "python3.10: No such file" in error.what
    assert "pip install --pre paddlelite" in error.todo


def test_an_interpreter_without_paddlelite_is_named(tmp_path: Path) -> None:
    error = failure(sys.executable, tmp_path)
    assert error.code is ErrorCode.ENGINE_MISSING
    assert f"{sys.executable} has no paddlelite" in error.what


def test_an_abort_is_told_by_its_signal_and_its_fatal_line(tmp_path: Path) -> None:
    error = failure(
        interpreter(tmp_path, f"sys.stderr.write({FATAL!r} + chr(10))\nsys.stderr.flush()\nos.abort()"), tmp_path
    )
    assert error.code is ErrorCode.ENGINE_CRASHED
    assert "SIGABRT" in error.what
    assert "No attributes called threshold found for relu6" in error.what
    assert "[F 11/28" not in error.what


def test_a_crash_is_told_by_its_signal(tmp_path: Path) -> None:
    error = failure(interpreter(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)"), tmp_path)
    assert error.code is ErrorCode.ENGINE_CRASHED
    assert "SIGSEGV" in error.what


@pytest.mark.parametrize(
    "said", [UNSUPPORTED, FATAL.replace("No attributes called", "No kernels found for atan2; not")]
)
def test_an_operator_that_lite_lacks_is_named(tmp_path: Path, said: str) -> None:
    error = failure(interpreter(tmp_path, f"sys.stderr.write({said!r})\nsys.exit(1)"), tmp_path)
    assert error.code is ErrorCode.MODEL_UNSUPPORTED
    assert "atan2" in error.what


def test_an_end_without_a_file_is_told_by_its_last_words(tmp_path: Path) -> None:
    error = failure(interpreter(tmp_path, "sys.stderr.write('no space left')"), tmp_path)
    assert error.code is ErrorCode.ENGINE_FAILED
    assert "no space left" in error.what


def test_a_pir_program_is_refused_before_opt_sees_it(tmp_path: Path) -> None:
    assert failure(str(tmp_path / "never started"), tmp_path, pir=True).code is ErrorCode.MODEL_UNSUPPORTED


def test_a_scale_table_is_exported_as_a_file_for_phones_with_what_stays_in_float(tmp_path: Path) -> None:
    model = saved(small_network(), tmp_path / "model")
    table = calibrate(model, tmp_path).table
    content, in_float = export_nb(model, table, converting(tmp_path, repr(str(DATA / INT8))))
    assert content == (DATA / INT8).read_bytes()
    assert in_float == ("linear_0.w_0 (fc): opt gave it a kernel in fp32",)
    with pytest.raises(QuantfleetError, match="made for x86"):
        export_nb(model, table, converting(tmp_path, repr(str(DATA / X86))))


def test_the_version_of_an_opt_is_known_before_anything_is_converted(tmp_path: Path) -> None:
    assert installed_version(converting(tmp_path, "'nowhere'")) == "v2.13-rc"


@pytest.mark.parametrize(
    ("python", "code", "said"),
    [
        ("/nowhere/python", ErrorCode.ENGINE_MISSING, "cannot start /nowhere/python: No such file"),
        (sys.executable, ErrorCode.ENGINE_MISSING, "has no paddlelite: No module named 'paddlelite'"),
        ("os.abort()", ErrorCode.ENGINE_FAILED, "exit code -6"),
        ("sys.exit(3)", ErrorCode.ENGINE_FAILED, "exit code 3"),
        ("print('a program that is no interpreter')", ErrorCode.ENGINE_FAILED, "does not start"),
        ("print('[2.13]')", ErrorCode.ENGINE_FAILED, "does not start"),
    ],
)
def test_an_interpreter_without_opt_is_told_with_the_reason(
    tmp_path: Path, python: str, code: ErrorCode, said: str
) -> None:
    named = python if python.startswith("/") else interpreter(tmp_path, python)
    with pytest.raises(QuantfleetError) as caught:
        installed_version(named)
    assert caught.value.code is code
    assert said in caught.value.what
    assert named in caught.value.what


def test_what_prints_something_else_converts_nothing(tmp_path: Path) -> None:
    error = failure(interpreter(tmp_path, "print('a program that is no interpreter')"), tmp_path)
    assert error.code is ErrorCode.ENGINE_FAILED
