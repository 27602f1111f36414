"""Writes pages of handwritten digits as PNG files, and which digit is where, in COCO's form. Not for training.

    python examples/detection/prepare.py [DIRECTORY]        (default: data/ beside this file)

The digits ship inside scikit-learn, so nothing is downloaded. Running it twice writes the same bytes.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

TRAIN = 1297
"""The first so many digits are for training and calibration; the other 500 are held back for the evaluation's pages."""
CALIBRATION_PAGES, EVALUATION_PAGES = 48, 100
CALIBRATION_SEED, EVALUATION_SEED = 1, 2
HEIGHT, WIDTH = 180, 240
"""A page's extents in pixels."""
SIDES = (28, 60)
"""The least and the largest side of the square that a digit is written in, pixels."""
MOST_DIGITS = 9
GAP = 2
"""Pixels that are left between two digits at least."""

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Digits:
    """`greys`: (n, 8, 8) float64 of 0 … 16, white on black; `labels`: (n,) int64, 0 … 9."""

    greys: NDArray[np.float64]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Page:
    """`picture`: (HEIGHT, WIDTH) uint8 greys, ink on paper; `boxes`: (k, 4) int64 of x1, y1, x2, y2, pixels, around the
    ink of each digit; `labels`: (k,) int64."""

    picture: Image
    boxes: NDArray[np.int64]
    labels: NDArray[np.int64]


def load() -> tuple[Digits, Digits]:
    """Return the digits for training and the held-back ones, in scikit-learn's order."""
    images, targets = load_digits(return_X_y=True)
    greys, labels = np.asarray(images, np.float64).reshape(-1, 8, 8), np.asarray(targets, np.int64)
    return Digits(greys[:TRAIN], labels[:TRAIN]), Digits(greys[TRAIN:], labels[TRAIN:])


def pages(digits: Digits, seed: int) -> Iterator[Page]:
    """Pages of randomly chosen digits, without end; the same seed gives the same pages."""
    random = np.random.default_rng(seed)
    while True:
        yield _page(digits, random)


def _page(digits: Digits, random: np.random.Generator) -> Page:
    ink = np.zeros((HEIGHT, WIDTH), np.float32)
    boxes: list[tuple[int, int, int, int]] = []
    labels: list[int] = []
    for _ in range(random.integers(3, MOST_DIGITS + 1)):
        index, side = int(random.integers(len(digits.labels))), int(random.integers(SIDES[0], SIDES[1] + 1))
        top, left = int(random.integers(HEIGHT - side)), int(random.integers(WIDTH - side))
        glyph = cv2.resize(
            np.asarray(digits.greys[index] / 16, np.float32), (side, side), interpolation=cv2.INTER_CUBIC
        )
        rows, columns = (np.flatnonzero((glyph > 0.3).any(axis=axis)) for axis in (1, 0))
        box = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
        if any(_touch(box, other) for other in boxes):
            continue
        part = ink[top : top + side, left : left + side]
        np.maximum(part, glyph.clip(0, 1), out=part)
        boxes.append(box)
        labels.append(int(digits.labels[index]))
    return Page(_written(ink, random), np.array(boxes, np.int64), np.array(labels, np.int64))


def _touch(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    apart = box[2] + GAP <= other[0] or other[2] + GAP <= box[0] or box[3] + GAP <= other[1] or other[3] + GAP <= box[1]
    return not apart


def _written(ink: NDArray[np.float32], random: np.random.Generator) -> Image:
    """Ink, (HEIGHT, WIDTH) of 0 … 1, on ruled paper that is lit from one side and a little grainy."""
    slope = np.linspace(-1, 1, WIDTH, dtype=np.float32) * random.uniform(-25, 25)
    paper = np.broadcast_to(random.uniform(170, 230) + slope, (HEIGHT, WIDTH)).copy()
    paper[int(random.integers(8, 24)) :: int(random.integers(18, 30))] -= random.uniform(0, 40)
    grain = random.normal(0, 6, ink.shape)
    return np.asarray((paper * (1 - ink * random.uniform(0.6, 0.9)) + grain).clip(0, 255), np.uint8)


def _write(directory: Path, name: str, drawn: list[Page]) -> None:
    """Write NAME/*.png, and NAME.json, their COCO annotations. Format: https://cocodataset.org/#format-data."""
    (directory / name).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number, page in enumerate(drawn):
        path = directory / name / f"{number:04d}.png"
        if not cv2.imwrite(str(path), page.picture):
            raise OSError(f"cannot write {path}")
        images.append({"id": number, "file_name": path.name, "height": HEIGHT, "width": WIDTH})
        for (x1, y1, x2, y2), label in zip(page.boxes.tolist(), page.labels.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": digit, "name": str(digit)} for digit in range(10)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (directory / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def prepare(directory: Path) -> None:
    """Write calibration/*.png of training digits, and evaluation/*.png of held-back ones, each with its annotations."""
    train, held_back = load()
    for name, digits, seed, count in (
        ("calibration", train, CALIBRATION_SEED, CALIBRATION_PAGES),
        ("evaluation", held_back, EVALUATION_SEED, EVALUATION_PAGES),
    ):
        drawing = pages(digits, seed)
        _write(directory, name, [next(drawing) for _ in range(count)])


if __name__ == "__main__":
    prepare(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data")
