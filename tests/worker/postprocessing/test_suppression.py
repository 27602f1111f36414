"""Non-maximum suppression keeps what it must, and nothing that a better box covers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from quantfleet_worker.postprocessing.suppression import Suppression, overlaps, suppress

ALL = Suppression(score=0.1, overlap=0.5, before=-1, keep=-1)
COORDINATES = arrays.arrays(np.float32, (12, 4), elements=st.integers(0, 20).map(float))
SCORES = arrays.arrays(np.float32, (12, 2), elements=st.integers(0, 20).map(lambda value: value / 20))


@settings(deadline=None)
@given(corners=COORDINATES, scores=SCORES)
def test_every_candidate_stays_or_is_covered_by_a_better_one_that_stays(
    corners: np.ndarray, scores: np.ndarray
) -> None:
    indices, classes = suppress(corners, scores, ALL)
    kept = set(zip(indices.tolist(), classes.tolist(), strict=True))
    assert len(kept) == len(indices)
    for box, of in np.argwhere(scores > ALL.score).tolist():
        covering = [
            other
            for other, of_other in kept
            if of_other == of and other != box and overlaps(corners[box], corners[other : other + 1])[0] > ALL.overlap
        ]
        if (box, of) in kept:
            assert not covering
        else:
            assert any(scores[other, of] >= scores[box, of] for other in covering)
    best = scores[indices, classes]
    assert (best[:-1] >= best[1:]).all()


def test_boxes_of_two_classes_do_not_suppress_each_other() -> None:
    corners = np.array([[0, 0, 10, 10]] * 2, np.float32)
    indices, classes = suppress(corners, np.array([[0.9, 0.8], [0.7, 0.0]], np.float32), ALL)
    assert list(zip(indices.tolist(), classes.tolist(), strict=True)) == [(0, 0), (0, 1)]


def test_the_limits_cut_the_candidates_of_a_class_and_what_stays_of_all() -> None:
    corners = np.array([[i * 20, 0, i * 20 + 10, 10] for i in range(4)], np.float32)
    scores = np.array([[0.9, 0.2], [0.8, 0.3], [0.7, 0.4], [0.1, 0.95]], np.float32)
    assert suppress(corners, scores, Suppression(0.1, 0.5, 2, -1))[0].tolist() == [3, 0, 1, 2]
    assert suppress(corners, scores, Suppression(0.1, 0.5, -1, 3))[0].tolist() == [3, 0, 1]
    assert suppress(corners[:0], scores[:0], ALL)[0].size == 0


def test_the_overlap_is_the_shared_area_over_the_whole() -> None:
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [3, 3, 3, 3], [9, 9, 1, 1]], np.float32)
    np.testing.assert_allclose(overlaps(others[0], others), [1, 1 / 3, 0, 0, 0])
    assert overlaps(others[3], others[3:4]).tolist() == [0]
