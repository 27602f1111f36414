"""Metrics are computed of all shards together, and do not depend on how many there were."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantfleet_domain.jobs.measured import (
    BoxOutcome,
    ClassOutcome,
    EvaluateResult,
    Outcome,
    PixelOutcome,
)
from quantfleet_domain.reporting.accuracy import confusion_matrix, figures, mean_iou, pixel_accuracy

PIXELS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1)


def part(outcome: Outcome) -> EvaluateResult:
    return EvaluateResult("onnxruntime-cpu", "1", "int8", "static", "u8s8", 0, outcome)


def shown(*metrics: str, parts: list[Outcome], reference: list[Outcome] | None = None) -> dict[str, float]:
    found = figures(metrics, [part(o) for o in parts], [part(o) for o in reference or []])
    assert {figure.unit for figure in found} <= {"percent"}
    return {figure.metric: figure.value for figure in found}


def counted(pixels: list[tuple[int, int]]) -> PixelOutcome:
    """Pixels of (true class, predicted class), in a matrix as small as they allow."""
    classes = 1 + max((max(pair) for pair in pixels), default=-1)
    counts = [0] * classes**2
    for true, predicted in pixels:
        counts[true * classes + predicted] += 1
    return PixelOutcome(1, classes, tuple(counts))


@given(shards=st.lists(PIXELS, min_size=1, max_size=5))
def test_the_confusion_matrices_of_shards_add_up_to_that_of_the_whole(shards: list[list[tuple[int, int]]]) -> None:
    whole = counted([pixel for pixels in shards for pixel in pixels])
    parts: list[Outcome] = [counted(pixels) for pixels in shards]
    assert shown("miou", "pixel_accuracy", parts=parts) == shown("miou", "pixel_accuracy", parts=[whole])


@given(pixels=PIXELS)
def test_the_mean_iou_is_that_of_sets_of_pixels(pixels: list[tuple[int, int]]) -> None:
    true, predicted = np.array(pixels).T
    occurring = sorted({*true.tolist(), *predicted.tolist()})
    shares = [np.sum((true == c) & (predicted == c)) / np.sum((true == c) | (predicted == c)) for c in occurring]
    confusion = confusion_matrix([counted(pixels)])
    assert mean_iou(confusion) == pytest.approx(100 * np.mean(shares))
    assert pixel_accuracy(confusion) == pytest.approx(100 * np.mean(true == predicted))


def test_a_set_in_which_no_pixel_is_judged_has_no_share_right() -> None:
    assert shown("miou", "pixel_accuracy", parts=[PixelOutcome(3, 2, (0,) * 4)]) == {"miou": 0, "pixel_accuracy": 0}


def test_the_accuracy_of_a_text_is_the_share_of_right_classes() -> None:
    parts: list[Outcome] = [ClassOutcome((0, 1), (0, 0), (True, True)), ClassOutcome((1, 1), (1, 1), (True, False))]
    reference: list[Outcome] = [ClassOutcome((0, 1, 1, 1), (0, 1, 1, 0), (True,) * 4)]
    assert shown("accuracy", "top1", "top5", parts=parts) == {"accuracy": 75, "top1": 75, "top5": 75}
    assert shown("accuracy", parts=parts, reference=reference) == {"accuracy": 75, "agreement": 50}


def test_the_precision_of_boxes_comes_as_the_worker_found_it() -> None:
    assert shown("map50", "map", parts=[BoxOutcome(7, 31.5, 52.0)]) == {"map50": 52.0, "map": 31.5}
    assert shown("map", parts=[]) == {}
