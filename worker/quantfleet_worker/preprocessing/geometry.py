"""Where a picture's pixels are in the model's input, and the way back. Not for moving pixels."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Pair = tuple[float, float]
"""A vertical and a horizontal figure, in this order."""
Size = tuple[int, int]
"""Height and width, pixels."""


@dataclass(frozen=True)
class Geometry:
    """What preprocessing did to a picture: a point (y, x) of it is at `point * scale + offset` in the input.

    `original` is the picture's own size, `content` the size to which it was scaled, `size` that of the input, which may
    be padded or cut. Points are continuous: the first pixel's centre is (0.5, 0.5).
    """

    original: Size
    content: Size
    size: Size
    scale: Pair = (1.0, 1.0)
    offset: Pair = (0.0, 0.0)

    @staticmethod
    def unchanged(size: Size) -> "Geometry":
        """A picture that is the input as it is."""
        return Geometry(size, size, size)

    def scaled(self, size: Size, ratio: Pair | None = None) -> "Geometry":
        """After scaling all of it to `size`, by `ratio` where that is not what the sizes say (both are rounded)."""
        vertical, horizontal = ratio or (size[0] / self.size[0], size[1] / self.size[1])
        return replace(
            self,
            content=size,
            size=size,
            scale=(self.scale[0] * vertical, self.scale[1] * horizontal),
            offset=(self.offset[0] * vertical, self.offset[1] * horizontal),
        )

    def moved(self, top: int, left: int, size: Size) -> "Geometry":
        """After cutting or padding to `size`, its old origin now at (top, left), which is negative for a cut."""
        return replace(self, size=size, offset=(self.offset[0] + top, self.offset[1] + left))

    def undo(self, corners: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes [K, 4] of x1, y1, x2, y2 in the input, in pixels, as boxes of the picture, cut to its borders."""
        offset = np.array([self.offset[1], self.offset[0]] * 2)
        scale = np.array([self.scale[1], self.scale[0]] * 2)
        limit = np.array([self.original[1], self.original[0]] * 2)
        restored: NDArray[np.float32] = ((corners - offset) / scale).clip(0, limit).astype(np.float32)
        return restored
