"""The image operators of PaddleClas's inference_cls.yaml, one function each. Not for parsing that file."""

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]
"""An image on its way through the operators: uint8 or float32, [H, W, 3] until ToCHWImage and [3, H, W] after it."""

Operator = Callable[[Image], Image]

INTERPOLATIONS = {"nearest": 0, "bilinear": 1, "bicubic": 2, "area": 3, "lanczos": 4}
"""OpenCV's numbers for the names that PaddleClas gives to its interpolations."""


class SampleMismatchError(ValueError):
    """A readable sample that does not fit the preprocessing; the message is for the user."""


@cache
def opencv() -> ModuleType:
    """OpenCV, set to one thread and without IPP, whose code paths differ in bits between CPUs."""
    import cv2

    cv2.setNumThreads(1)
    if hasattr(cv2, "ipp"):
        cv2.ipp.setUseIPP(False)
    return cv2


def decode(encoded: bytes, *, to_rgb: bool) -> Image:
    """An encoded picture as uint8 [H, W, 3], RGB or BGR. Raises SampleMismatchError if it is no picture."""
    cv2 = opencv()
    if not encoded:
        raise SampleMismatchError("the file is empty")
    image: Image | None = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise SampleMismatchError("it is not a picture that OpenCV can decode")
    return np.ascontiguousarray(image[:, :, ::-1]) if to_rgb else image


def resize_short(side: int, interpolation: int) -> Operator:
    """Scale so that the shorter side becomes `side` pixels, as PaddleClas rounds it."""

    def apply(image: Image) -> Image:
        height, width = image.shape[:2]
        ratio = side / min(height, width)
        return _resized(image, round(width * ratio), round(height * ratio), interpolation)

    return apply


def resize_to(width: int, height: int, interpolation: int) -> Operator:
    """Scale to exactly `width` × `height` pixels."""
    return lambda image: _resized(image, width, height, interpolation)


def crop(width: int, height: int) -> Operator:
    """Cut `width` × `height` pixels from the centre."""

    def apply(image: Image) -> Image:
        rows, columns = image.shape[:2]
        if rows < height or columns < width:
            raise SampleMismatchError(f"at CropImage it is {columns}x{rows} pixels, smaller than {width}x{height}")
        top, left = (rows - height) // 2, (columns - width) // 2
        return image[top : top + height, left : left + width]

    return apply


def normalize(scale: float, mean: tuple[float, ...], std: tuple[float, ...], *, channels_first: bool) -> Operator:
    """(x · scale − mean) / std per channel, in float32 in this order of operations."""
    shape = (-1, 1, 1) if channels_first else (1, 1, -1)
    factor = np.float32(scale)
    means = np.asarray(mean, np.float32).reshape(shape)
    deviations = np.asarray(std, np.float32).reshape(shape)

    def apply(image: Image) -> Image:
        normalized: Image = (image.astype(np.float32) * factor - means) / deviations
        return normalized

    return apply


def to_chw(image: Image) -> Image:
    """[H, W, C] to [C, H, W]."""
    return image.transpose(2, 0, 1)


def _resized(image: Image, width: int, height: int, interpolation: int) -> Image:
    if image.shape[:2] == (height, width):
        return image
    resized: Image = opencv().resize(image, (width, height), interpolation=interpolation)
    return resized
