"""The text of a TensorRT calibration cache: one scale for each tensor. Not for which ranges they come from.

The first line is `TRT-VERSION-KIND`: the library's version as one number (8401 is 8.4.1) and the kind of calibrator
(EntropyCalibration2, EntropyCalibration, MinMaxCalibration, Legacy). Every further line is `TENSOR: HEX`, the bits of a
float32 in at most eight hexadecimal digits, the most significant first. The number is the scale of a symmetric int8,
the largest magnitude divided by 127; it is 0 for a tensor that is always 0. Sources: caches that users published, and
what ONNX Runtime's TensorRT provider reads (core/providers/tensorrt/tensorrt_execution_provider_utils.h,
`ReadDynamicRange`). It has not been tried against TensorRT itself.
"""

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError

KIND = "EntropyCalibration2"
"""The calibrator whose caches most users have."""
ENGINE = "tensorrt"
FILE = "calibration.cache"
"""What a cache is called beside the FP32 model that it is for."""
LEVELS = 127
_HEAD = re.compile(r"TRT-([0-9]+)-(\w+)")
_DIGITS = re.compile(r"[0-9a-fA-F]{1,8}")


@dataclass(frozen=True)
class CalibrationCache:
    """A cache: `version` and `kind` as its first line has them, and the scales by tensor, float32 values from 0 on."""

    version: str
    kind: str
    scales: Mapping[str, float]

    @staticmethod
    def of_thresholds(version: str, kind: str, thresholds: Mapping[str, float]) -> "CalibrationCache":
        """The cache of tensors' largest magnitudes, each divided by 127 and rounded to float32."""
        return CalibrationCache(version, kind, {name: _float32(t / LEVELS) for name, t in thresholds.items()})

    def thresholds(self) -> dict[str, float]:
        """The largest magnitudes that the scales stand for, by tensor."""
        return {name: scale * LEVELS for name, scale in self.scales.items()}

    def to_text(self) -> bytes:
        """The file's bytes, UTF-8. Raises QuantfleetError(SCALES_INVALID) for a name that no line can hold."""
        lines = [f"TRT-{self.version}-{self.kind}"]
        for name, scale in self.scales.items():
            if name != name.strip() or len(name.splitlines()) != 1:
                what = f"tensor {name!r} cannot stand in a calibration cache, which has a line for each"
                raise QuantfleetError(ErrorCode.SCALES_INVALID, what, "give the tensor another name in the model")
            lines.append(f"{name}: {struct.pack('>f', scale).hex()}")
        return ("\n".join(lines) + "\n").encode()

    @staticmethod
    def from_text(data: bytes, source: str) -> "CalibrationCache":
        """Read a cache; errors call it `source`. Raises QuantfleetError(SCALES_INVALID) with the number of the line."""
        try:
            lines = data.decode().split("\n")
        except UnicodeDecodeError as error:
            raise _invalid(f"{source}: byte {error.start} is not UTF-8") from error
        head = _HEAD.fullmatch(lines[0].strip())
        if head is None:
            raise _invalid(f"{source}:1: a calibration cache begins with a line such as TRT-8401-{KIND}")
        scales: dict[str, float] = {}
        for number, line in enumerate(lines[1:], 2):
            if not line.strip():
                continue
            place = f"{source}:{number}"
            name, colon, digits = (part.strip() for part in line.rpartition(":"))
            if not colon or not name:
                raise _invalid(f"{place}: a line is `tensor: scale`, and this one has no tensor")
            if name in scales:
                raise _invalid(f"{place}: tensor {name!r} has a scale already")
            scales[name] = _scale(digits, f"{place}: tensor {name!r}")
        return CalibrationCache(head[1], head[2], scales)


def thresholds_of(table: ScaleTable, *, native: bool = False) -> dict[str, float]:
    """The largest magnitude of every activation of a table by its name in the reference graph, or, with `native`, in
    the submitted model.

    Raises QuantfleetError(SCALES_INVALID) for an activation that has no native name.
    """
    found: dict[str, float] = {}
    for row in table.activations:
        name = row.native_name if native else row.tensor
        if name is None:
            what = f"tensor {row.tensor!r} has no name in the submitted model"
            raise QuantfleetError(ErrorCode.SCALES_INVALID, what, "use the names of the reference graph")
        found[name] = max(found.get(name, 0.0), -row.lo, row.hi)
    return found


def _scale(digits: str, place: str) -> float:
    if not _DIGITS.fullmatch(digits):
        raise _invalid(f"{place}: {digits!r} is not up to eight hexadecimal digits")
    (scale,) = struct.unpack(">f", bytes.fromhex(digits.zfill(8)))
    if not math.isfinite(scale):
        raise _invalid(f"{place}: the scale {digits} is not finite")
    if math.copysign(1.0, scale) < 0:
        raise _invalid(f"{place}: the scale {scale!r} is negative")
    return float(scale)


def _float32(value: float) -> float:
    (rounded,) = struct.unpack(">f", struct.pack(">f", value))
    return float(rounded)


def _invalid(what: str) -> QuantfleetError:
    return QuantfleetError(ErrorCode.SCALES_INVALID, what, "give a calibration cache as TensorRT wrote it")
