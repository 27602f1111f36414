"""From a Paddle program to Paddle Lite's `.nb` file, by `opt` in a child process. Not for making the program fit.

`opt` is part of the wheel `paddlelite`, which exists for old Pythons only, so it has an interpreter of its own; and it
aborts or crashes where others raise, so it has a process of its own.
"""

import json
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.execution.spec import RunSpec, environment_of
from quantfleet_worker.models.paddle_files import PaddleFiles
from quantfleet_worker.phones.nb_file import without_junk

TIMEOUT_S = 600
_SCRIPT = Path(__file__).with_name("opt_script.py")
_UNSUPPORTED = re.compile(r"unsupported ops are: '([^']*)'|No kernels found for (\w+)")
_FATAL = re.compile(r"^\[F .*?\] (.*)$", re.MULTILINE)
_INSTALL = "make an environment with Python 3.10, `pip install --pre paddlelite` in it, and name its interpreter"


@dataclass(frozen=True)
class OptRequest:
    """What is wanted of `opt`: the `target` (`arm`, which serves armv7 and armv8, or `x86`); `weight_bits` 8 or 16 to
    store float weights as integers (Lite's dynamic quantization; computing stays in float), else 0."""

    target: str
    weight_bits: int = 0


@dataclass(frozen=True)
class Converted:
    """The bytes of an `.nb` file, the same for the same program, and the version of the `opt` that made it."""

    content: bytes
    version: str


def convert(interpreter: str, files: PaddleFiles, request: OptRequest, scratch: Path) -> Converted:
    """Convert an old-format program; `scratch` is an existing directory for the file.

    Raises QuantfleetError: ENGINE_MISSING where the interpreter does not start or has no paddlelite, MODEL_UNSUPPORTED
    for an operator that Lite has not and for a program of Paddle 3's `.json` format, ENGINE_CRASHED with the signal and
    opt's last words where it died, ENGINE_FAILED where it ended without a file or not at all.
    """
    if files.pir:
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"{files.program} is a PIR program, and opt reads the old format alone",
            "export it with FLAGS_enable_pir_api=0",
        )
    out = scratch / "converted"
    asked = {
        "program": str(files.program),
        "parameters": str(files.parameters),
        "out": str(out),
        "target": request.target,
        "weight_bits": request.weight_bits,
    }
    ended = _run(interpreter, json.dumps(asked))
    answer = _answer(ended.stdout)
    if "missing" in answer:
        raise _missing(f"{interpreter} has no paddlelite: {answer['missing']}")
    path = out.with_name(f"{out.name}.nb")
    if "version" not in answer or not path.is_file():
        raise _failure(ended, files)
    content = path.read_bytes()
    path.unlink()
    return Converted(without_junk(content), answer["version"])


def installed_version(interpreter: str) -> str:
    """The version of the `opt` that an interpreter has.

    Raises QuantfleetError: ENGINE_MISSING, ENGINE_FAILED where it says nothing.
    """
    ended = _run(interpreter, "{}")
    answer = _answer(ended.stdout)
    if "missing" in answer:
        raise _missing(f"{interpreter} has no paddlelite: {answer['missing']}")
    if "version" not in answer:
        what = f"opt does not start under {interpreter} (exit code {ended.returncode})"
        raise QuantfleetError(ErrorCode.ENGINE_FAILED, what, "run paddle_lite_opt itself there")
    return str(answer["version"])


def _run(interpreter: str, request: str) -> subprocess.CompletedProcess[str]:
    environment = environment_of(RunSpec(cores=(), threads=1), os.environ)
    try:
        return subprocess.run(
            [interpreter, str(_SCRIPT), request],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        raise _missing(f"cannot start {interpreter}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise QuantfleetError(
            ErrorCode.ENGINE_FAILED,
            f"opt did not end within {TIMEOUT_S} s",
            "give it a smaller model, or a faster host",
        ) from error


def _answer(printed: str) -> dict[str, str]:
    """What the script answered; nothing where a program that is no such interpreter printed something else."""
    try:
        answer = json.loads(printed)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _failure(ended: subprocess.CompletedProcess[str], files: PaddleFiles) -> QuantfleetError:
    lacking = sorted({name for found in _UNSUPPORTED.findall(ended.stderr) for name in found if name})
    if lacking:
        return QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"{files.program}: Paddle Lite has no kernel for {', '.join(lacking)}",
            "leave the operator out of the model, or use another engine",
        )
    fatal = _FATAL.findall(ended.stderr)
    lines = [line.strip() for line in ended.stderr.partition("Fatal Python error:")[0].splitlines() if line.strip()]
    said = fatal[-1] if fatal else lines[-1] if lines else "nothing"
    if ended.returncode < 0:
        what = f"opt was ended by {signal.Signals(-ended.returncode).name} on {files.program}; its last words: {said}"
        return QuantfleetError(ErrorCode.ENGINE_CRASHED, what, "export the model with another version of Paddle")
    what = f"opt made no model of {files.program} (exit code {ended.returncode}); its last words: {said}"
    return QuantfleetError(ErrorCode.ENGINE_FAILED, what, "check the model with paddle_lite_opt itself")


def _missing(what: str) -> QuantfleetError:
    return QuantfleetError(ErrorCode.ENGINE_MISSING, what, _INSTALL)
