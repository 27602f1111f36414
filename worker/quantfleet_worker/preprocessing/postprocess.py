"""Turns a classifier's output into classes, as PaddleClas's `PostProcess.Topk` says. Not for measuring accuracy."""

from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from . import fields

_DEFAULT_CLASSES = 5


def top_classes(scores: NDArray[Any], count: int) -> NDArray[np.int64]:
    """The `count` best classes of each row of `scores` [N, classes] (logits or probabilities): int64 [N, count].

    Trailing dimensions of 1 are dropped. Equal scores keep the order of their class numbers.
    """
    rows = scores.reshape(scores.shape[0], -1)
    order: NDArray[np.int64] = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    return order


def parse_topk(text: str) -> int:
    """How many classes the file's `PostProcess.Topk` asks for; 5 where it says nothing.

    Raises QuantfleetError(PREPROCESS_INVALID).
    """
    try:
        document = fields.mapping(yaml.safe_load(text), "the file")
    except yaml.YAMLError as error:
        raise fields.invalid("the file", f"not YAML: {error}") from error
    section = fields.mapping(document.get("PostProcess"), "PostProcess")
    topk = fields.mapping(section.get("Topk"), "PostProcess.Topk")
    return fields.pixels(topk.get("topk", _DEFAULT_CLASSES), "PostProcess.Topk.topk")
