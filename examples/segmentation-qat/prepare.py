"""Writes pages with handwritten digits as PNG files, with a mask for each. Not for training: see train.py.

    python examples/segmentation-qat/prepare.py [DIRECTORY]        (default: data/ beside this file)

The digits ship inside scikit-learn, so nothing is downloaded. Running it twice writes the same bytes. A mask's values
are the classes: 0 for paper, 1 for the ink of an even digit, 2 for that of an odd one.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

TRAIN_DIGITS = 1297
"""The first so many of the 1,797 digits are written on training pages, the other 500 on those for evaluation."""
TRAIN_PAGES, EVALUATION_PAGES = 1200, 200
SIDE = 64
"""Side of a page in pixels."""
LEAST_CONTRAST = 70
"""Between paper and ink, in the channel where they differ most, of 255."""
SEED = 20
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Digits:
    """`greys`: (n, 8, 8) float64, 0 … 16; `labels`: (n,) int64, 0 … 9."""

    greys: NDArray[np.float64]
    labels: NDArray[np.int64]


def _texture(random: np.random.Generator) -> NDArray[np.float32]:
    """Paper with stains of three sizes and a grain: (64, 64, 3) float32 around 0."""
    texture = np.zeros((SIDE, SIDE, 3), np.float32)
    for cells, strength in ((2, 14), (5, 12), (12, 10)):
        stains = random.normal(0, 1, (cells, cells, 3)).astype(np.float32)
        texture += strength * cv2.resize(stains, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    grain = random.normal(0, 1, (SIDE, SIDE, 3)).astype(np.float32)
    return np.asarray(texture + random.uniform(2, 10) * grain, np.float32)


def _page(digits: Digits, random: np.random.Generator) -> tuple[Picture, Picture]:
    """A page (64, 64, 3) and its mask (64, 64), with at most one digit in each quarter."""
    paper, ink = random.uniform(90, 220, 3), random.uniform(0, 255, 3)
    if np.abs(ink - paper).max() < LEAST_CONTRAST:
        ink = np.where(paper < 150, 255.0, 0.0)
    coverage, mask = np.zeros((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.uint8)
    for quarter in np.flatnonzero(random.random(4) < 0.75):
        chosen, side = random.integers(len(digits.labels)), int(random.integers(20, 33))
        greys = digits.greys[chosen].astype(np.float32) / 16
        digit = cv2.resize(greys, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 1)
        top, left = (int(random.integers(0, 33 - side)) + 32 * place for place in divmod(int(quarter), 2))
        coverage[top : top + side, left : left + side] = digit
        mask[top : top + side, left : left + side] = (digit > 0.5) * (1 + digits.labels[chosen] % 2)
    page = paper + (ink - paper) * coverage[..., None] + _texture(random)
    return np.rint(page.clip(0, 255)).astype(np.uint8), mask


def _write(directory: Path, name: str, pages: int, digits: Digits) -> None:
    """Write NAME/*.png, NAME/*_mask.png and NAME.txt (`page mask`, paths within NAME/)."""
    (directory / name).mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(pages):
        files = (f"{index:04d}.png", f"{index:04d}_mask.png")
        pictures = _page(digits, np.random.default_rng((SEED, len(digits.labels), index)))
        for file, picture in zip(files, pictures, strict=True):
            if not cv2.imwrite(str(directory / name / file), picture):
                raise OSError(f"cannot write {directory / name / file}")
        lines.append(" ".join(files))
    (directory / f"{name}.txt").write_text("\n".join(lines) + "\n")


def prepare(directory: Path, train: int = TRAIN_PAGES, evaluation: int = EVALUATION_PAGES) -> None:
    """Write the pages for training, the first of which also calibrate, and those for evaluation.

    Fewer pages are the first ones of more.
    """
    images, targets = load_digits(return_X_y=True)
    greys, labels = np.asarray(images).reshape(-1, 8, 8), np.asarray(targets, np.int64)
    _write(directory, "train", train, Digits(greys[:TRAIN_DIGITS], labels[:TRAIN_DIGITS]))
    _write(directory, "evaluation", evaluation, Digits(greys[TRAIN_DIGITS:], labels[TRAIN_DIGITS:]))


if __name__ == "__main__":
    prepare(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data")
