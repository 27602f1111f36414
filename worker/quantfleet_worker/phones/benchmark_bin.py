"""Paddle Lite's own measuring tool on the phone: its command line, and what it prints. Not for carrying either.

Sources, of Paddle-Lite 2.13: lite/api/tools/benchmark/{benchmark.cc,benchmark.h,utils/flags.cc}. It exists since 2.11;
`--input_data_type` and `--output_data_path` came with 2.13. It prints no single latency. It repeats the settings as
they were asked for; that fewer cores served, or others, only its log on standard error may say (device_info.cc).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.measurement.latency import Round
from quantfleet_worker.engines.base import Array

POWER_MODES = ("high", "low", "full", "no-bind", "rand-high", "rand-low")
"""Paddle Lite's, by the number that the tool takes: lite/api/paddle_place.h, `PowerMode`."""
INPUT_TYPES = ("float32", "int64", "int32")
"""What `--input_data_type` knows."""
MEMORY_RUNS = 10
_NS_PER_MS = 1_000_000
_FLOAT_SLACK = 1e-3
"""Relative. The tool adds its latencies up as float32, so its average may leave the extremes by that much."""
_FIGURES = ("init", "first", "min", "max", "avg")
_SMALLEST_NORMAL = np.finfo(np.float32).tiny
_FIGURE = re.compile(r"^(\w+)\s*= (\S+)\s*$", re.MULTILINE)
_SHAPE = re.compile(r"^output shape\(NCHW\):((?: ?\d+)*) ?$", re.MULTILINE)
_VERSION = re.compile(r"^benchmark_bin version: *(.*?) *$", re.MULTILINE)
_NOTE = re.compile(
    r"^.*(?:truncate thread num|is not support, switch|switch to NO BIND|Set cpu affinity failed).*$", re.M
)
_STAMP = re.compile(r"^\[[^\]]*\]")
"""What every line of the log begins with: level, time, file, function."""
_MISMATCH = re.compile(r"version of opt:\s*(\S+)\s*version of current Paddle-Lite:\s*(\S+)")


@dataclass(frozen=True)
class Invocation:
    """One run of the tool: `warmup` untimed inferences, then `repeats` timed ones, on `threads` threads.

    `shapes` and `types` are the inputs' in the model's order; `inputs` are the files of their values, none for values
    of 1; `outputs` are where the outputs' values go, none for nowhere. All paths are the phone's.
    """

    binary: str
    model: str
    backend: str
    power_mode: str
    threads: int
    warmup: int
    repeats: int
    shapes: tuple[tuple[int, ...], ...]
    types: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    memory: bool = False

    def command(self) -> list[str]:
        """The program and its arguments."""
        flags = {
            "optimized_model_file": self.model,
            "backend": self.backend,
            "power_mode": str(POWER_MODES.index(self.power_mode)),
            "threads": str(self.threads),
            "warmup": str(self.warmup),
            "repeats": str(self.repeats),
            "input_shape": ":".join(",".join(map(str, shape)) for shape in self.shapes),
        }
        if any(kind != "float32" for kind in self.types):
            flags["input_data_type"] = ":".join(self.types)
        if self.inputs:
            flags["input_data_path"] = ":".join(self.inputs)
        if self.outputs:
            flags["output_data_path"] = ":".join(self.outputs)
        if self.memory:
            flags["enable_memory_profile"] = "true"
        return [self.binary, *(f"--{name}={value}" for name, value in flags.items())]


@dataclass(frozen=True)
class ToolReport:
    """What one run said: the library's version, the time to load, the timed inferences, the shapes of the outputs.

    `peak_mb` is the largest resident memory in MiB, where it was asked for. `notes` are the log's lines about other
    cores or fewer threads than asked; `converted_by` is the version of `opt` where the library has another itself.
    """

    version: str
    init_ms: float
    round: Round
    shapes: tuple[tuple[int, ...], ...]
    peak_mb: float | None
    notes: tuple[str, ...]
    converted_by: str


def parse(stdout: str, stderr: str, code: int, repeats: int) -> ToolReport:
    """Read what the tool printed for `repeats` timed inferences.

    Raises QuantfleetError(ENGINE_FAILED) naming its last line where that is no report; a wrong flag ends it with code 0
    all the same.
    """
    head, found, perf = stdout.partition("======= Perf Info =======")
    timing, _, memory = perf.partition("Memory Usage")
    try:
        figures = {name: float(value) for name, value in _FIGURE.findall(timing)}
        low, high, mean = (round(figures[name] * _NS_PER_MS) for name in ("min", "max", "avg"))
        if code or not found or not all(name in figures for name in _FIGURES):
            raise ValueError
        if not low * (1 - _FLOAT_SLACK) <= mean <= high * (1 + _FLOAT_SLACK) or low <= 0:
            raise ValueError
        peak = dict(_FIGURE.findall(memory)).get("peak")
        version = _VERSION.search(head)
        mismatch = _MISMATCH.search(stderr)
        return ToolReport(
            version=version[1] if version else "",
            init_ms=figures["init"],
            round=Round(min(max(mean, low), high), low, high, repeats),
            shapes=tuple(tuple(map(int, shape.split())) for shape in _SHAPE.findall(head)),
            peak_mb=None if peak is None else float(peak),
            notes=tuple(dict.fromkeys(_STAMP.sub("", line).strip() for line in _NOTE.findall(stderr))),
            converted_by=mismatch[1] if mismatch else "",
        )
    except (KeyError, ValueError) as error:
        lines = [line.strip() for text in (stdout, stderr) for line in text.splitlines() if line.strip()]
        last = f"its last line: {lines[-1]}" if lines else "it printed nothing"
        raise QuantfleetError(
            ErrorCode.ENGINE_FAILED,
            f"benchmark_bin gave no figures (exit code {code}); {last}",
            "run benchmark_bin on the phone by hand; it must be of Paddle Lite 2.11 or later and of the phone's ABI",
        ) from error


def values_as_text(values: Array) -> str:
    """An input file: the values in row-major order, one a line, which a C++ stream reads back to the bit.

    Numbers too small to be normal become 0: a stream of libc++ would stop reading at the first.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    if flat.dtype.kind != "f":
        return "".join(f"{int(value)}\n" for value in flat)
    settled = np.where(np.abs(flat) < _SMALLEST_NORMAL, np.float32(0), flat.astype(np.float32))
    return "".join(f"{value:.9g}\n" for value in settled.tolist())


def values_of_text(text: str, shape: Sequence[int]) -> Array:
    """Read an output file, float32 in six significant digits.

    Raises QuantfleetError(ENGINE_FAILED) where it does not have as many values as the shape.
    """
    try:
        return np.array([float(word) for word in text.split()], np.float32).reshape(shape)
    except ValueError as error:
        what = f"benchmark_bin wrote an output file that does not hold {list(shape)} numbers"
        todo = "its version must be 2.13 or later: older ones write none"
        raise QuantfleetError(ErrorCode.ENGINE_FAILED, what, todo) from error
