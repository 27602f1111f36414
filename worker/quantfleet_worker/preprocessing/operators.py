"""The image operators that preprocessing files name, one function each. Not for parsing those files."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .geometry import Geometry, Pair, Size

Image = NDArray[Any]
"""uint8 or float32, [H, W, 3], and [3, H, W] once it is transposed."""


@dataclass(frozen=True)
class Picture:
    """An image on its way through the operators, and what they have done to it so far."""

    image: Image
    geometry: Geometry


Operator = Callable[[Picture], Picture]

INTERPOLATIONS = {"nearest": 0, "bilinear": 1, "bicubic": 2, "area": 3, "lanczos": 4}
"""OpenCV's numbers for the names that PaddleClas gives to its interpolations."""
LINEAR = INTERPOLATIONS["bilinear"]


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


def decode(encoded: bytes, *, to_rgb: bool) -> Picture:
    """An encoded picture as uint8 [H, W, 3], RGB or BGR. Raises SampleMismatchError if it is no picture."""
    cv2 = opencv()
    if not encoded:
        raise SampleMismatchError("the file is empty")
    image: Image | None = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise SampleMismatchError("it is not a picture that OpenCV can decode")
    return Picture(np.ascontiguousarray(image[:, :, ::-1]) if to_rgb else image, Geometry.unchanged(_size(image)))


def resize_short(side: int, interpolation: int) -> Operator:
    """Scale so that the shorter side becomes `side` pixels, as PaddleClas rounds it."""
    return lambda picture: _in_ratio(picture, side / min(picture.geometry.size), interpolation)


def resize_long(side: int, interpolation: int) -> Operator:
    """Scale so that the longer side becomes `side` pixels."""
    return lambda picture: _in_ratio(picture, side / max(picture.geometry.size), interpolation)


def resize_to(width: int, height: int, interpolation: int) -> Operator:
    """Scale to exactly `width` × `height` pixels."""
    return lambda picture: _resized(picture, (height, width), interpolation)


def resize_within(shortest: int, longest: int, interpolation: int) -> Operator:
    """Scale so that the shorter side becomes `shortest`, but the longer no more than `longest`: one ratio for both.

    As Resize with keep_ratio of PaddleDetection's deploy/python/preprocess.py.
    """

    def apply(picture: Picture) -> Picture:
        small, large = min(picture.geometry.size), max(picture.geometry.size)
        ratio = shortest / small
        if np.round(ratio * large) > longest:
            ratio = longest / large
        _check_extent((round(small * ratio), 1), picture)
        image = opencv().resize(picture.image, None, fx=ratio, fy=ratio, interpolation=interpolation)
        return Picture(image, picture.geometry.scaled(_size(image), (ratio, ratio)))

    return apply


def letterbox(width: int, height: int, interpolation: int, fill: tuple[float, ...]) -> Operator:
    """Scale in one ratio to fit into `width` × `height`, and centre it on a canvas of colour `fill`.

    An odd margin is one pixel wider at the bottom or right, as in YOLOv5 and PaddleDetection's LetterBoxResize.
    """

    def apply(picture: Picture) -> Picture:
        rows, columns = picture.geometry.size
        ratio = min(height / rows, width / columns)
        fitted = _resized(picture, (round(rows * ratio), round(columns * ratio)), interpolation, (ratio, ratio))
        top, left = (height - fitted.geometry.size[0]) // 2, (width - fitted.geometry.size[1]) // 2
        return _on_canvas(fitted, (height, width), fill, top, left)

    return apply


def pad_to(width: int, height: int, fill: tuple[float, ...]) -> Operator:
    """Extend at the bottom and at the right to `width` × `height` pixels with colour `fill`."""

    def apply(picture: Picture) -> Picture:
        rows, columns = picture.geometry.size
        if rows > height or columns > width:
            raise SampleMismatchError(f"where it is padded it is {columns}x{rows} pixels, over {width}x{height}")
        return _on_canvas(picture, (height, width), fill, 0, 0)

    return apply


def pad_to_multiple(stride: int) -> Operator:
    """Extend an image [3, H, W] at the bottom and at the right with zeros to the next multiple of `stride`."""

    def apply(picture: Picture) -> Picture:
        rows, columns = picture.geometry.size
        size = -(-rows // stride) * stride, -(-columns // stride) * stride
        image = np.pad(picture.image, ((0, 0), (0, size[0] - rows), (0, size[1] - columns)))
        return Picture(image, picture.geometry.moved(0, 0, size))

    return apply


def crop(width: int, height: int) -> Operator:
    """Cut `width` × `height` pixels from the centre."""

    def apply(picture: Picture) -> Picture:
        rows, columns = picture.geometry.size
        if rows < height or columns < width:
            raise SampleMismatchError(f"at CropImage it is {columns}x{rows} pixels, smaller than {width}x{height}")
        top, left = (rows - height) // 2, (columns - width) // 2
        image = picture.image[top : top + height, left : left + width]
        return Picture(image, picture.geometry.moved(-top, -left, (height, width)))

    return apply


def normalize(scale: float, mean: tuple[float, ...], std: tuple[float, ...], *, channels_first: bool) -> Operator:
    """(x · scale − mean) / std per channel, in float32 in this order of operations."""
    shape = (-1, 1, 1) if channels_first else (1, 1, -1)
    factor = np.float32(scale)
    means = np.asarray(mean, np.float32).reshape(shape)
    deviations = np.asarray(std, np.float32).reshape(shape)

    def apply(picture: Picture) -> Picture:
        return replace(picture, image=(picture.image.astype(np.float32) * factor - means) / deviations)

    return apply


def to_chw(picture: Picture) -> Picture:
    """[H, W, C] to [C, H, W]."""
    return replace(picture, image=picture.image.transpose(2, 0, 1))


def _size(image: Image) -> Size:
    return int(image.shape[0]), int(image.shape[1])


def _in_ratio(picture: Picture, ratio: float, interpolation: int) -> Picture:
    rows, columns = picture.geometry.size
    return _resized(picture, (round(rows * ratio), round(columns * ratio)), interpolation)


def _resized(picture: Picture, size: Size, interpolation: int, ratio: Pair | None = None) -> Picture:
    if picture.geometry.size == size:
        return picture
    _check_extent(size, picture)
    image: Image = opencv().resize(picture.image, size[::-1], interpolation=interpolation)
    return Picture(image, picture.geometry.scaled(size, ratio))


def _check_extent(size: Size, picture: Picture) -> None:
    if 0 in size:
        rows, columns = picture.geometry.size
        raise SampleMismatchError(f"of {columns}x{rows} pixels nothing is left when it is scaled in that ratio")


def _on_canvas(picture: Picture, size: Size, fill: tuple[float, ...], top: int, left: int) -> Picture:
    rows, columns = picture.geometry.size
    canvas = np.full((*size, len(fill)), fill, np.float32)
    canvas[top : top + rows, left : left + columns] = picture.image
    return Picture(canvas, picture.geometry.moved(top, left, size))
