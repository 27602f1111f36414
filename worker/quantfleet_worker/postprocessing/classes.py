"""Turns a classifier's output into classes, as PaddleClas's `Topk` does. Not for measuring accuracy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BEST = 5
"""How many classes of a sample are looked at: Top-5 is the most that anybody asks for."""


def top_classes(scores: NDArray[Any], count: int) -> NDArray[np.int64]:
    """The `count` best classes of each row of `scores` [N, classes] (logits or probabilities): int64 [N, count].

    Trailing dimensions of 1 are dropped. Equal scores keep the order of their class numbers.
    """
    rows = scores.reshape(scores.shape[0], -1)
    order: NDArray[np.int64] = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    return order
