"""Every known form of a detector's outputs becomes the same boxes, in the picture's own pixels."""

import numpy as np
import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.postprocessing.boxes import Boxes, detections
from quantfleet_worker.postprocessing.suppression import Suppression
from quantfleet_worker.preprocessing.geometry import Geometry

RULE = Suppression(score=0.1, overlap=0.5)
LETTERBOX = Geometry((32, 16), (64, 32), (64, 64), (2.0, 2.0), (0.0, 16.0))
"""A picture of 16 by 32 pixels, twice as large in the middle of 64 by 64."""


def assert_boxes(found: Boxes, classes: list[int], scores: list[float], corners: list[list[float]]) -> None:
    assert found.classes.tolist() == classes
    np.testing.assert_allclose(found.scores, scores, rtol=1e-6)
    np.testing.assert_allclose(found.corners, corners, rtol=1e-5)


def test_a_yolos_rows_are_suppressed_and_taken_out_of_the_letterbox() -> None:
    rows = np.array(
        [
            [32, 32, 16, 32, 0.9, 0.2, 1.0],
            [33, 32, 16, 32, 0.8, 0.0, 0.9],
            [20, 8, 8, 16, 0.5, 1.0, 0.0],
            [20, 8, 8, 16, 0.05, 1.0, 1.0],
        ],
        np.float32,
    )
    (found,) = detections({"output": rows[None]}, [LETTERBOX], RULE, restored=False)
    assert_boxes(found, [1, 0, 0], [0.9, 0.5, 0.18], [[4, 8, 12, 24], [0, 0, 4, 8], [4, 8, 12, 24]])


def test_pairs_of_scores_and_corners_leave_the_background_out() -> None:
    scores = np.array([[[0.1, 0.9, 0.0], [0.95, 0.05, 0.0], [0.2, 0.1, 0.7]]], np.float32)
    corners = np.array([[[0.25, 0, 0.75, 1], [0, 0, 1, 1], [0.5, 0.5, 0.75, 1.0]]], np.float32)
    whole = Geometry((100, 200), (64, 64), (64, 64), (0.64, 0.32), (0.0, 0.0))
    for outputs in ({"a": scores, "b": corners}, {"a": corners, "b": scores}):
        (found,) = detections(outputs, [whole], RULE, restored=False)
        assert_boxes(found, [0, 1], [0.9, 0.7], [[50, 0, 150, 100], [100, 50, 150, 100]])


def test_boxes_that_the_model_suppressed_itself_are_split_by_their_counts() -> None:
    rows = np.array([[1, 0.5, 8, 0, 24, 64], [0, 0.9, 16, 0, 48, 64], [2, 0.3, 1, 2, 3, 4]], np.float32)
    outputs = {"boxes": rows, "counts": np.array([2, 1, 0], np.int32)}
    first, second, third = detections(outputs, [LETTERBOX] * 3, RULE, restored=True)
    assert_boxes(first, [0, 1], [0.9, 0.5], [[16, 0, 48, 64], [8, 0, 24, 64]])
    assert_boxes(second, [2], [0.3], [[1, 2, 3, 4]])
    assert third.classes.size == 0
    (restored, *_) = detections(outputs, [LETTERBOX] * 3, RULE, restored=False)
    assert restored.corners.tolist() == [[0, 0, 16, 32], [0, 0, 4, 32]]


@pytest.mark.parametrize(
    "outputs",
    [
        {"a": np.zeros((1, 10), np.float32)},
        {"a": np.zeros((1, 10, 5), np.float32)},
        {"a": np.zeros((2, 10, 7), np.float32)},
        {"a": np.zeros((1, 10, 2), np.float32), "b": np.zeros((1, 9, 4), np.float32)},
        {"a": np.zeros((3, 6), np.float32)},
    ],
)
def test_outputs_of_no_known_form_are_told_with_their_shapes(outputs: dict[str, np.ndarray]) -> None:
    with pytest.raises(QuantfleetError) as caught:
        detections(outputs, [LETTERBOX], RULE, restored=False)
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED
    assert all(f"{name} {list(array.shape)}" in caught.value.what for name, array in outputs.items())


def test_offsets_from_anchors_are_not_taken_for_corners() -> None:
    offsets = np.random.default_rng(0).standard_normal((1, 50, 4)).astype(np.float32)
    with pytest.raises(QuantfleetError, match="no corners") as caught:
        detections({"s": np.ones((1, 50, 2), np.float32), "b": offsets}, [LETTERBOX], RULE, restored=False)
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED
