"""Writes short texts in three languages, each with what it is about, as text files. Not for training.

    python examples/text/prepare.py [DIRECTORY]        (default: data/ beside this file)

Nothing is downloaded: the texts are put together from words.yaml. Running it twice writes the same bytes.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

CALIBRATION, EVALUATION = 96, 600
CALIBRATION_SEED, EVALUATION_SEED = 1, 2
HELD_BACK = 4
"""One pair of a subject and a predicate in so many is never said outside the evaluation."""
MISTAKES = 0.06
"""The share of letters that are mistyped."""
WORDS: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "words.yaml").read_text(encoding="utf-8"))
TOPICS = tuple(WORDS["english"]["subjects"])


@dataclass(frozen=True)
class Text:
    """A text, and the index in TOPICS of what it is about."""

    text: str
    topic: int


def texts(seed: int, *, held_back: bool) -> Iterator[Text]:
    """Randomly composed texts of the held-back pairs, or of the others, without end; the same seed gives the same."""
    random = np.random.default_rng(seed)
    while True:
        words = WORDS[random.choice(list(WORDS))]
        topic, other = (int(index) for index in random.choice(len(TOPICS), 2, replace=False))
        subjects, predicates = words["subjects"][TOPICS[topic]], words["predicates"]
        subject, predicate = int(random.integers(len(subjects))), int(random.integers(len(predicates)))
        if ((subject + predicate) % HELD_BACK == 0) is held_back:
            filled = random.choice(words["frames"]).format(
                subject=subjects[subject],
                predicate=predicates[predicate],
                other=random.choice(words["subjects"][TOPICS[other]]),
            )
            yield Text(_mistyped(filled, random), topic)


def _mistyped(text: str, random: np.random.Generator) -> str:
    """A text some of whose letters are left out, doubled, or changed places with the next."""
    letters = list(text)
    for index in np.flatnonzero(random.random(len(letters)) < MISTAKES):
        letter = letters[index]
        kind = random.integers(3)
        if kind == 0 or index + 1 == len(letters):
            letters[index] = ""
        elif kind == 1:
            letters[index] = letter * 2
        else:
            letters[index], letters[index + 1] = letters[index + 1], letter
    return "".join(letters)


def _write(directory: Path, name: str, written: list[Text]) -> None:
    """Write NAME/*.txt, and NAME.txt, lines `path label`."""
    (directory / name).mkdir(parents=True, exist_ok=True)
    lines = []
    for number, text in enumerate(written):
        path = directory / name / f"{number:04d}.txt"
        path.write_text(text.text + "\n", encoding="utf-8")
        lines.append(f"{path.name} {text.topic}")
    (directory / f"{name}.txt").write_text("\n".join(lines) + "\n")


def prepare(directory: Path) -> None:
    """Write the texts to calibrate with, and the held-back ones, each with the list of what they are about."""
    for name, seed, count in (
        ("calibration", CALIBRATION_SEED, CALIBRATION),
        ("evaluation", EVALUATION_SEED, EVALUATION),
    ):
        writing = texts(seed, held_back=name == "evaluation")
        _write(directory, name, [next(writing) for _ in range(count)])


if __name__ == "__main__":
    prepare(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data")
