"""Scale and zero point of a clip range, in the form that an engine wants. Not for choosing the range.

The arithmetic is ONNX Runtime's (`onnxruntime/quantization/quant_utils.py`, `compute_scale_zp`, 1.31), to the bit, so
the results can be handed to it as overrides. TensorRT and Paddle want the symmetric form: the same number.

Rules for degenerate ranges: the range is first widened to include 0, so a constant tensor c is quantized on [0, c] or
[c, 0] and is represented at the end of the integers; an all-zero tensor, and any whose scale would be below the
smallest normal float32, gets scale 1 and zero point 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

_SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
_U8_STEPS = 255
_S8_STEPS = 127


class ActivationForm(StrEnum):
    """How an activation is quantized, per tensor."""

    U8_AFFINE = "u8-affine"
    S8_SYMMETRIC = "s8-symmetric"


@dataclass(frozen=True)
class QuantizationParameters:
    """real = scale · (integer − zero_point). `zero_point` is uint8 for u8-affine and int8 for s8-symmetric."""

    scale: np.float32
    zero_point: np.uint8 | np.int8


def activation_parameters(form: ActivationForm, lo: float, hi: float) -> QuantizationParameters:
    """The parameters for the clip range [lo, hi], lo ≤ hi, which are taken as float32.

    u8-affine: scale (hi − lo) / 255 on integers 0…255, zero point 0 where lo ≥ 0. s8-symmetric: scale
    max(|lo|, |hi|) / 127 on integers −127…127, zero point 0.
    """
    low, high = min(float(np.float32(lo)), 0.0), max(float(np.float32(hi)), 0.0)
    return _PARAMETERS[form](low, high)


def clip_range(minimum: float, maximum: float, threshold: float) -> tuple[float, float]:
    """[lo, hi] = [max(min, −t), min(max, t)] of a tensor's extremes and a threshold."""
    return max(minimum, -threshold), min(maximum, threshold)


def _u8_affine(low: float, high: float) -> QuantizationParameters:
    scale = (high - low) / _U8_STEPS
    if scale < _SMALLEST_NORMAL:
        return QuantizationParameters(np.float32(1), np.uint8(0))
    # round() and numpy.round both round halves to even.
    return QuantizationParameters(np.float32(scale), np.uint8(round(0.0 - low / scale)))


def _s8_symmetric(low: float, high: float) -> QuantizationParameters:
    scale = max(-low, high) / _S8_STEPS
    return QuantizationParameters(np.float32(scale if scale >= _SMALLEST_NORMAL else 1), np.int8(0))


_PARAMETERS = {ActivationForm.U8_AFFINE: _u8_affine, ActivationForm.S8_SYMMETRIC: _s8_symmetric}


def weight_scales(absmax: Sequence[float]) -> NDArray[np.float32]:
    """Per-channel scales of a symmetric int8 weight (zero point 0), float32 (C,), from each channel's absmax."""
    scales = np.asarray(absmax, np.float32).astype(np.float64) / _S8_STEPS
    return np.where(scales < _SMALLEST_NORMAL, 1.0, scales).astype(np.float32)
