"""Reads a class for every pixel out of a segmenter's output. Not for comparing it with a mask."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.preprocessing.geometry import Geometry


def class_count(output: NDArray[Any]) -> int | None:
    """How many classes an output tells apart; None where it is classes already, and does not say."""
    return None if _is_classes(output) else int(output.shape[1])


def class_maps(output: NDArray[Any], geometries: Sequence[Geometry]) -> list[NDArray[np.int64]]:
    """The class of every pixel of each picture of a batch, int64 [H, W] of the picture's own size.

    `output` is logits or probabilities [N, classes, h, w], or classes, integers [N, h, w] or [N, 1, h, w]; it covers
    the input, and may be coarser. A pixel takes the class at its centre (nearest neighbour), so that what preprocessing
    padded is left out. Raises QuantfleetError(MODEL_UNSUPPORTED) for any other output.
    """
    if _is_classes(output):
        classes = output.reshape(output.shape[0], *output.shape[-2:])
    elif output.ndim == 4 and output.shape[1] > 1:
        classes = output.argmax(axis=1)
    else:
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"an output of {output.dtype} {list(output.shape)} gives no class for each pixel",
            "export the model with logits [N, classes, H, W], or with classes as integers [N, H, W]",
        )
    return [_restored(found, geometry) for found, geometry in zip(classes, geometries, strict=True)]


def _is_classes(output: NDArray[Any]) -> bool:
    alone = output.ndim == 3 or (output.ndim == 4 and output.shape[1] == 1)
    return alone and np.issubdtype(output.dtype, np.integer)


def _restored(classes: NDArray[Any], geometry: Geometry) -> NDArray[np.int64]:
    rows, columns = (_nearest(classes.shape[axis], geometry, axis) for axis in (0, 1))
    return classes[np.ix_(rows, columns)].astype(np.int64)


def _nearest(cells: int, geometry: Geometry, axis: int) -> NDArray[np.int64]:
    """Which cell of the output each of the picture's rows (axis 0) or columns lies in; the nearest where it was cut."""
    centres = (np.arange(geometry.original[axis]) + 0.5) * geometry.scale[axis] + geometry.offset[axis]
    return np.floor(centres * cells / geometry.size[axis]).astype(np.int64).clip(0, cells - 1)
