"""What a TensorRT version needs to build one precision of one kind of file. Pure: not for building.

Versions up to 10 build weakly typed networks, in which builder flags allow FP16 and INT8 and a calibrator may bring the
ranges; version 11 has only strongly typed networks, whose types are those of the file, and neither such flags nor
calibrators (NVIDIA, TensorRT 11.0 release notes; the Python bindings 10.16.1 and 11.4 show the same).
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from quantfleet_domain.errors import ErrorCode, QuantfleetError

Version = tuple[int, int, int]
_STRONGLY_TYPED_ONLY = (11, 0, 0)
_OLDEST = (10, 0, 0)
_PINNED = "pinned"
PRECISIONS = ("fp32", "fp16", "int8", "int8+fp16", "int8+fp16+pinned")
"""All that this engine offers, on GPUs that have them."""


class Quantization(StrEnum):
    """How an ONNX file says what is in INT8."""

    NONE = "none"
    QDQ = "qdq"
    CACHE = "cache"
    """Not at all: a calibration cache beside it gives its tensors scales."""


@dataclass(frozen=True)
class BuildPlan:
    """How to build: `flags` are names of `BuilderFlag`; `half` is whether the network is read from a copy of the file
    in FP16; `calibrated` whether a calibrator gives the cache; `pinned` whether host memory is page-locked."""

    strongly_typed: bool
    flags: tuple[str, ...]
    half: bool
    calibrated: bool
    pinned: bool


def parse_version(text: str) -> Version:
    """(10, 16, 1) of `10.16.1.11`. Raises QuantfleetError(ENGINE_FAILED) for a version with another interface."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    version = (int(found[1]), int(found[2]), int(found[3] or 0)) if found else (0, 0, 0)
    if version < _OLDEST:
        raise QuantfleetError(
            ErrorCode.ENGINE_FAILED,
            f"TensorRT {text} is older than {_OLDEST[0]}.{_OLDEST[1]}, whose interface this engine uses",
            "pip install quantfleet[tensorrt]",
        )
    return version


def has_calibrators(version: Version) -> bool:
    """Whether this version can calibrate and read calibration caches."""
    return version < _STRONGLY_TYPED_ONLY


def plan(version: Version, precision: str, quantization: Quantization) -> BuildPlan:
    """Raises QuantfleetError(ENGINE_FAILED) for what this version cannot build, with the reason."""
    parts = frozenset(precision.split("+"))
    int8, half = "int8" in parts, "fp16" in parts
    if precision not in PRECISIONS:
        raise _refusal(f"TensorRT does not build {precision} here", "choose another precision")
    if int8 and quantization is Quantization.NONE:
        raise _refusal(
            "TensorRT needs scales for INT8, and the model has neither QuantizeLinear nodes nor a calibration cache",
            "quantize the model, or calibrate it",
        )
    if not int8 and quantization is not Quantization.NONE:
        raise _refusal(f"the model is quantized, and {precision} is asked for", "ask for int8 of a quantized model")
    if not has_calibrators(version):
        if quantization is Quantization.CACHE:
            raise no_calibrators(version)
        return BuildPlan(strongly_typed=True, flags=(), half=half, calibrated=False, pinned=_PINNED in parts)
    flags = [name for name, wanted in (("FP16", half), ("INT8", int8)) if wanted]
    return BuildPlan(
        strongly_typed=False,
        flags=tuple(flags),
        half=False,
        calibrated=quantization is Quantization.CACHE,
        pinned=_PINNED in parts,
    )


def no_calibrators(version: Version) -> QuantfleetError:
    """Why this version neither calibrates nor reads a calibration cache."""
    return _refusal(
        f"TensorRT {version[0]}.{version[1]} has no calibrators and reads no calibration cache: from 11 on, what is in "
        "INT8 stands in the model",
        "use a quantized model (form s8s8), or install tensorrt-cu13<11",
    )


def _refusal(what: str, todo: str) -> QuantfleetError:
    return QuantfleetError(ErrorCode.ENGINE_FAILED, what, todo)
