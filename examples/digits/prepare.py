"""Writes the handwritten digits as PNG files, with the list that evaluation reads. Not for training: see train.py.

    python examples/digits/prepare.py [DIRECTORY]        (default: data/ beside this file)

The digits ship inside scikit-learn, so nothing is downloaded. Running it twice writes the same bytes.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

TRAIN = 1297
"""The first so many digits are for training; the other 500 are held back."""
CALIBRATION = 96
"""How many of the training digits are written for calibration, evenly spaced."""
PICTURE_SIDE = 96
"""Side of a written picture in pixels."""


@dataclass(frozen=True)
class Digits:
    """`pictures`: (n, 96, 96) uint8 greys, white on black; `labels`: (n,) int64, 0 … 9."""

    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]


def _picture(greys: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Enlarge one digit, (8, 8) of 0 … 16, to a (96, 96) uint8 picture."""
    pixels = np.rint(greys * (255 / 16)).astype(np.uint8)
    return np.asarray(cv2.resize(pixels, (PICTURE_SIDE, PICTURE_SIDE), interpolation=cv2.INTER_CUBIC), np.uint8)


def load() -> tuple[Digits, Digits]:
    """Return the digits for training and the held-back ones, in scikit-learn's order."""
    images, targets = load_digits(return_X_y=True)
    pictures = np.stack([_picture(image.reshape(8, 8)) for image in np.asarray(images)])
    labels = np.asarray(targets, np.int64)
    return Digits(pictures[:TRAIN], labels[:TRAIN]), Digits(pictures[TRAIN:], labels[TRAIN:])


def _write(directory: Path, digits: Digits, indices: range) -> list[str]:
    """Write the digits of `indices` as PNG files and return their lines `name label`."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = []
    for index in indices:
        path = directory / f"{index:04d}.png"
        if not cv2.imwrite(str(path), digits.pictures[index]):
            raise OSError(f"cannot write {path}")
        lines.append(f"{path.name} {digits.labels[index]}")
    return lines


def prepare(directory: Path) -> None:
    """Write calibration/*.png, evaluation/*.png and evaluation.txt (`path label`, paths within evaluation/)."""
    train, held_back = load()
    _write(directory / "calibration", train, range(0, TRAIN, TRAIN // CALIBRATION)[:CALIBRATION])
    lines = _write(directory / "evaluation", held_back, range(len(held_back.labels)))
    (directory / "evaluation.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    prepare(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data")
