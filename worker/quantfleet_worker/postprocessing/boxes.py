"""Reads boxes out of a detector's outputs, in the picture's own pixels. Not for drawing or judging them.

Which of the known forms the outputs have is told by their shapes:

- PaddleDetection with its suppression inside: `[M, 6]` of class, score, x1, y1, x2, y2, and how many belong to each
  picture, `[N]`. Format: https://github.com/PaddlePaddle/PaddleDetection, deploy/EXPORT_MODEL.md.
- YOLOv5 and v7: `[N, boxes, 5 + classes]` of centre x and y, width, height (pixels of the input), the score that
  anything is there, and the score of each class. Format: https://github.com/ultralytics/yolov5, utils/general.py.
- SSD-like pairs: scores `[N, boxes, classes]`, of which the first is the background, and corners `[N, boxes, 4]` of
  x1, y1, x2, y2 as shares of the input's extents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.postprocessing.suppression import Suppression, suppress
from quantfleet_worker.preprocessing.geometry import Geometry

Array = NDArray[Any]
_INVERTED_SHARE = 0.1


@dataclass(frozen=True)
class Boxes:
    """What was found in one picture, the best score first: classes int64 (K,), scores float32 (K,), corners float32
    [K, 4] of x1, y1, x2, y2 in pixels of the picture as it was before preprocessing."""

    classes: NDArray[np.int64]
    scores: NDArray[np.float32]
    corners: NDArray[np.float32]


def detections(
    outputs: Mapping[str, Array], geometries: Sequence[Geometry], rule: Suppression, *, restored: bool
) -> list[Boxes]:
    """The boxes of each picture of a batch, suppressed by `rule` where the model did not do that itself.

    `restored` says that a model which suppresses itself was told the scale factor, and gives the picture's own pixels.
    Raises QuantfleetError(MODEL_UNSUPPORTED) for outputs of another form.
    """
    arrays, batch = list(outputs.values()), len(geometries)
    if len(arrays) == 2:
        first, second = sorted(arrays, key=lambda array: array.ndim)
        if first.ndim == 1 and second.ndim == 2 and second.shape[1] == 6:
            counts = np.cumsum(first[:-1]).tolist()
            parts = zip(np.split(second, counts), geometries, strict=True)
            return [_suppressed(rows, None if restored else geometry) for rows, geometry in parts]
        corners, scores = _corners_and_scores(arrays)
        if corners is not None and scores is not None and len(corners) == batch:
            _check_corners(corners)
            return [
                _chosen(corners[i] * _extents(geometry), scores[i, :, 1:], geometry, rule)
                for i, geometry in enumerate(geometries)
            ]
    if len(arrays) == 1 and arrays[0].ndim == 3 and arrays[0].shape[0] == batch and arrays[0].shape[2] > 5:
        return [_yolo(rows, geometry, rule) for rows, geometry in zip(arrays[0], geometries, strict=True)]
    found = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
    raise QuantfleetError(
        ErrorCode.MODEL_UNSUPPORTED,
        f"these outputs are of no known detector: {found}",
        "export the model with [M, 6] boxes and their counts, [N, boxes, 5 + classes], or scores and corner boxes",
    )


def _corners_and_scores(arrays: Sequence[Array]) -> tuple[Array | None, Array | None]:
    """The two of an SSD-like pair in either order; with four classes the corners are the second."""
    for corners, scores in (arrays[::-1], arrays):
        if corners.ndim == scores.ndim == 3 and corners.shape[2] == 4 and corners.shape[:2] == scores.shape[:2]:
            return corners, scores
    return None, None


def _check_corners(corners: Array) -> None:
    """A network exported without its last step gives offsets from anchors in the same shape; they are no corners."""
    if np.mean(corners[..., :2] > corners[..., 2:]) > _INVERTED_SHARE:
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            "many of the model's boxes end before they begin, so they are no corners x1, y1, x2, y2",
            "export the model with the step that turns offsets from anchors into corners",
        )


def _extents(geometry: Geometry) -> Array:
    height, width = geometry.size
    return np.array([width, height, width, height], np.float32)


def _suppressed(rows: Array, geometry: Geometry | None) -> Boxes:
    rows = rows[np.argsort(-rows[:, 1], kind="stable")]
    corners = rows[:, 2:].astype(np.float32)
    classes, scores = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.float32)
    return Boxes(classes, scores, geometry.undo(corners) if geometry else corners)


def _yolo(rows: Array, geometry: Geometry, rule: Suppression) -> Boxes:
    rows = rows[rows[:, 4] > rule.score]  # a class's score is at most that of the box: this spares the product
    half = rows[:, 2:4] / 2
    corners = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1)
    return _chosen(corners, rows[:, 4:5] * rows[:, 5:], geometry, rule)


def _chosen(corners: Array, scores: Array, geometry: Geometry, rule: Suppression) -> Boxes:
    indices, classes = suppress(corners, scores, rule)
    return Boxes(classes, scores[indices, classes].astype(np.float32), geometry.undo(corners[indices]))
