"""How the network of the pages with digits is trained: what `package: digit_pages` of a job means. Not the network."""

from typing import Any

import cv2
import numpy as np
import paddle
import yaml
from numpy.typing import NDArray

from digit_pages.network import PageNet

Array = NDArray[Any]
SIDE = 64
CLASS_WEIGHTS = (1.0, 3.0, 3.0)
"""Most of a page is paper."""


def recipe(config: str) -> "PageRecipe":
    """Return the recipe of a configuration: YAML with the members of `PageRecipe.__init__`."""
    return PageRecipe(**yaml.safe_load(config))


class PageRecipe:
    """The network, its samples, its loss and its optimizer, as quantfleet asks for them."""

    task = "segmentation"
    inputs = {"x": (3, SIDE, SIDE)}  # noqa: RUF012 - read and never written

    def __init__(self, width: int, classes: int, iters: int, batch_size: int, learning_rate: float) -> None:
        self.width, self.classes = width, classes
        self.iters, self.batch_size, self.learning_rate = iters, batch_size, learning_rate

    def network(self) -> PageNet:
        """Return a new network."""
        return PageNet(self.width, self.classes)

    def sample(self, sample: Any, random: np.random.Generator | None) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return a page (3, 64, 64) float32 and its mask (64, 64) int64. With `random`: turned, scaled, and in
        another light; what is beyond the page's edge is mirrored."""
        page: Array = cv2.cvtColor(_decoded(sample.content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(np.float32)
        mask: Array = _decoded(sample.mask, cv2.IMREAD_GRAYSCALE)
        if random is not None:
            matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), random.uniform(-10, 10), random.uniform(0.9, 1.15))
            matrix[:, 2] += random.uniform(-6, 6, 2)
            page = cv2.warpAffine(page, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT_101)
            mask = cv2.warpAffine(
                mask, matrix, (SIDE, SIDE), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101
            )
            page = (page * random.uniform(0.8, 1.2) + random.uniform(-20, 20)).clip(0, 255)
        normalized = (page * np.float32(1 / 255) - np.float32(0.5)) / np.float32(0.5)
        return (np.ascontiguousarray(normalized.transpose(2, 0, 1)),), (mask.astype(np.int64),)

    def loss(self, outputs: paddle.Tensor, targets: tuple[paddle.Tensor, ...]) -> paddle.Tensor:
        """Return the cross entropy over all pixels, the rare classes weighing more."""
        weight = paddle.to_tensor(CLASS_WEIGHTS)
        return paddle.nn.functional.cross_entropy(outputs, targets[0], weight=weight, axis=1)

    def optimizer(self, parameters: list[Any], learning_rate: float) -> paddle.optimizer.Optimizer:
        """Return AdamW over the parameters."""
        return paddle.optimizer.AdamW(learning_rate, parameters=parameters, weight_decay=1e-2)


def _decoded(content: bytes, flags: int) -> Array:
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), flags))
