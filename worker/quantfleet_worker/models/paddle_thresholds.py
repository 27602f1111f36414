"""Reads the thresholds of activations out of a quantized Paddle program. Not for its weights, nor for quantizing one.

Two formats carry them. `quantize_linear` operators (onnx_format) and the older `fake_quantize…` operators have them in
effect, as a parameter: the largest magnitude, which becomes code 127. The older format also leaves what was observed
in attributes of the operator that computes a tensor, `Output0_threshold` for output 0 of its slot `Output`. Both are
what paddle/static/quantization writes (quantization_pass.py, post_training_quantization.py of 3.3.1), and PaddleSlim
with it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantfleet_domain.calibration.imported import completed, symmetric
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_files import PaddleFiles
from quantfleet_worker.models.paddle_program import PaddleProgram

_MOVING = (
    "assign", "flatten_contiguous_range", "nearest_interp_v2", "reshape2", "squeeze2", "transpose2", "unsqueeze2",
)  # fmt: skip
"""Operators of one activation whose output has its values; a `pool2d` of type max too, an average has not."""


@dataclass(frozen=True)
class PaddleThresholds:
    """The Paddle version that wrote the program, and the largest magnitude by the variable's name in the FP32 model."""

    version: str
    thresholds: Mapping[str, float]


def read_thresholds(files: PaddleFiles) -> PaddleThresholds:
    """The thresholds of a quantized model, of either format; what only moves values has its neighbour's.

    Raises QuantfleetError: MODEL_UNREADABLE; SCALES_INVALID for a program without thresholds, of Paddle 3's `.json`
    format, or with a zero point or a scale per channel for an activation.
    """
    if files.pir:
        raise _invalid(files.program, "is of a format that Paddle's quantizers do not write", "give a .pdmodel program")
    program = PaddleProgram.load(files.directory, files.stem)
    sources = {
        operator.output("Y" if "Y" in operator.output_names else "Out")[0]: operator.input("X")[0]
        for operator in program.operators
        if "quantize" in operator.type
    }

    def native(name: str) -> str:
        """The FP32 model's name of what has passed through quantizers and dequantizers."""
        while name in sources:
            name = sources[name]
        return name

    observed = {name: value for operator in program.operators for name, value in _observed(operator)}
    effective = {native(name): value for name, value in _in_effect(files, program)}
    if not observed and not effective:
        raise _invalid(files.program, "has no threshold of an activation", "give a statically quantized Paddle model")
    moved = [(native(one), native(other)) for one, other in _moves(program)]
    version = program.program.desc._version()
    ranges = completed(symmetric(observed | effective), moved)
    return PaddleThresholds(
        f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}",
        {name: threshold for name, (_, threshold) in ranges.items()},
    )


def _in_effect(files: PaddleFiles, program: PaddleProgram) -> Iterator[tuple[str, float]]:
    for operator in program.operators:
        if operator.type != "quantize_linear" and not operator.type.startswith("fake_quantize"):
            continue
        slot = "Scale" if operator.type == "quantize_linear" else "InScale"
        scales = operator.input(slot) if slot in operator.input_names else []
        name = operator.input("X")[0]
        if not scales or program.is_parameter(name):
            continue  # its scale is found while it runs, or it is a weight
        if any(program.parameter(point).any() for point in _zero_points(operator)):
            raise _invalid(files.program, f"gives {name} a zero point", "quantize it symmetrically")
        values = program.parameter(scales[0]).reshape(-1)
        if values.size != 1:
            raise _invalid(files.program, f"gives {name} {values.size} scales", "quantize activations per tensor")
        yield name, float(values[0])


def _zero_points(operator: Any) -> list[str]:
    return list(operator.input("ZeroPoint")) if "ZeroPoint" in operator.input_names else []


def _observed(operator: Any) -> Iterator[tuple[str, float]]:
    for slot in operator.output_names:
        for index, name in enumerate(operator.output(slot)):
            if operator.has_attr(f"{slot}{index}_threshold"):
                yield name, float(operator.attr(f"{slot}{index}_threshold"))


def _moves(program: PaddleProgram) -> Iterator[tuple[str, str]]:
    for operator in program.operators:
        if operator.type in _MOVING or (operator.type == "pool2d" and operator.attr("pooling_type") == "max"):
            yield operator.input("X")[0], operator.output("Out")[0]


def _invalid(program: Path, what: str, todo: str) -> QuantfleetError:
    return QuantfleetError(ErrorCode.SCALES_INVALID, f"{program} {what}", todo)
