"""Where a picture ends up in the model's input, and that the way back leads to where it came from."""

import cv2
import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from quantfleet_worker.preprocessing import operators
from quantfleet_worker.preprocessing.geometry import Geometry
from quantfleet_worker.preprocessing.operators import LINEAR, Operator, Picture, SampleMismatchError

GREY = (114.0, 114.0, 114.0)
SIDES = st.integers(1, 60)
OPERATORS = st.one_of(
    st.builds(lambda w, h: operators.letterbox(w, h, LINEAR, GREY), SIDES, SIDES),
    st.builds(lambda w, h: operators.resize_to(w, h, LINEAR), SIDES, SIDES),
    st.builds(lambda side: operators.resize_short(side, LINEAR), st.integers(20, 60)),
    st.builds(lambda side: operators.resize_long(side, LINEAR), st.integers(20, 60)),
    st.builds(lambda: operators.pad_to(400, 400, GREY)),
    st.builds(lambda: operators.crop(1, 1)),
)


def picture(height: int, width: int) -> Picture:
    return Picture(np.full((height, width, 3), 255, np.uint8), Geometry.unchanged((height, width)))


@settings(deadline=None)
@given(height=st.integers(20, 60), width=st.integers(20, 60), steps=st.lists(OPERATORS, max_size=2))
def test_a_box_that_goes_through_the_operators_comes_back_as_it_was(
    height: int, width: int, steps: list[Operator]
) -> None:
    made = picture(height, width)
    try:
        for step in steps:
            made = step(made)
    except SampleMismatchError:
        reject()
    geometry = made.geometry
    assert made.image.shape[:2] == geometry.size
    box = np.array([[0.25 * width, 0.5 * height, width, height]])
    scale, offset = np.array(geometry.scale[::-1] * 2), np.array(geometry.offset[::-1] * 2)
    np.testing.assert_allclose(geometry.undo((box * scale + offset).astype(np.float32)), box, rtol=1e-3, atol=1e-2)


@settings(deadline=None)
@given(height=SIDES, width=SIDES, box=st.tuples(SIDES, SIDES))
def test_a_letterbox_holds_the_whole_picture_in_its_middle_and_grey_around_it(
    height: int, width: int, box: tuple[int, int]
) -> None:
    fit = operators.letterbox(box[1], box[0], LINEAR, GREY)
    if round(min(box[0] / height, box[1] / width) * min(height, width)) == 0:
        with pytest.raises(SampleMismatchError, match="nothing is left"):
            fit(picture(height, width))
        return
    made = fit(picture(height, width))
    rows, columns = made.geometry.content
    top, left = (int(side) for side in made.geometry.offset)
    inside = np.zeros(box, bool)
    inside[top : top + rows, left : left + columns] = True
    assert made.image.shape == (*box, 3)
    assert rows == box[0] or columns == box[1]
    assert (made.image[inside] == 255).all()
    assert (made.image[~inside] == 114).all()
    assert 0 <= box[0] - rows - 2 * top <= 1
    assert 0 <= box[1] - columns - 2 * left <= 1


def test_a_ratio_is_kept_between_the_shorter_and_the_longer_side() -> None:
    shorter = operators.resize_within(80, 133, LINEAR)
    for size, wanted in (((40, 60), (80, 120)), ((40, 100), (53, 133)), ((100, 40), (133, 53))):
        made = shorter(picture(*size))
        assert made.geometry.content == wanted
        assert made.geometry.scale[0] == made.geometry.scale[1]


def test_a_picture_of_which_scaling_leaves_nothing_is_refused() -> None:
    with pytest.raises(SampleMismatchError, match="1x200"):
        operators.resize_within(10, 20, LINEAR)(picture(200, 1))


def test_padding_to_a_multiple_adds_zeros_at_the_bottom_and_at_the_right() -> None:
    made = operators.pad_to_multiple(32)(operators.to_chw(picture(33, 64)))
    assert made.image.shape == (3, 64, 64)
    assert made.image[:, :33].min() == 255
    assert made.image[:, 33:].max() == 0
    assert made.geometry.offset == (0.0, 0.0)


def test_boxes_are_cut_to_the_picture() -> None:
    geometry = operators.letterbox(64, 64, cv2.INTER_LINEAR, GREY)(picture(32, 64)).geometry
    assert geometry.undo(np.array([[-5, 0, 70, 64]], np.float32)).tolist() == [[0, 0, 64, 32]]
