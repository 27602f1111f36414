"""Non-maximum suppression: of boxes that cover the same thing, the one of the best score. Not for reading outputs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Suppression:
    """The thresholds of a model's `NMS`; PaddleDetection's names are in brackets.

    A candidate needs a score above `score` (score_threshold); of each class the best `before` are looked at
    (nms_top_k); one that overlaps a better one of its class by more than `overlap` (nms_threshold) is dropped, and
    `keep` of the rest stay (keep_top_k). -1 means all. The defaults suit an evaluation: they lose next to nothing.
    """

    score: float = 0.001
    overlap: float = 0.6
    before: int = 1000
    keep: int = 300


def overlaps(box: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union of a box (4,) with others [K, 4], corners x1, y1, x2, y2; 0 where both are empty."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = (high - low).clip(min=0).prod(axis=1, dtype=np.float64)
    area = (box[2:] - box[:2]).clip(min=0).prod(dtype=np.float64)
    areas = (others[:, 2:] - others[:, :2]).clip(min=0).prod(axis=1, dtype=np.float64)
    union = area + areas - shared
    shares: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(union), where=union > 0)
    return shares


def suppress(
    corners: NDArray[Any], scores: NDArray[Any], rule: Suppression
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which boxes of which classes stay: (indices of boxes, classes), int64 (K,) each, the best score first.

    `corners` are [N, 4], `scores` [N, classes]. Greedy and class by class, as in Girshick et al., "Rich feature
    hierarchies for accurate object detection" (2014), with the limits of PaddlePaddle's `multiclass_nms3`: equal scores
    keep their order.
    """
    kept: list[tuple[int, int]] = []
    for of_class in range(scores.shape[1]):
        candidates = np.flatnonzero(scores[:, of_class] > rule.score)
        order = candidates[np.argsort(-scores[candidates, of_class], kind="stable")][: _limit(rule.before)]
        found: list[tuple[int, int]] = []
        while order.size and len(found) != rule.keep:  # the best of a class come first: no later one would be kept
            best, order = order[0], order[1:]
            found.append((int(best), of_class))
            order = order[overlaps(corners[best], corners[order]) <= rule.overlap]
        kept += found
    indices, classes = np.array(kept, np.int64).reshape(-1, 2).T
    best_first = np.argsort(-scores[indices, classes], kind="stable")[: _limit(rule.keep)]
    return indices[best_first], classes[best_first]


def _limit(count: int) -> int | None:
    return None if count < 0 else count
