"""A segmenter's output becomes a class for every pixel of the picture as it was before preprocessing."""

import numpy as np
import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.postprocessing.pixels import class_count, class_maps
from quantfleet_worker.preprocessing.geometry import Geometry

CLASSES = np.arange(12).reshape(1, 3, 4)
LOGITS = (np.arange(12)[None, :, None, None] == CLASSES[:, None]).astype(np.float32)


@pytest.mark.parametrize("output", [CLASSES, CLASSES[:, None], LOGITS, CLASSES.astype(np.int32)])
def test_logits_and_classes_give_the_same_map(output: np.ndarray) -> None:
    (found,) = class_maps(output, [Geometry.unchanged((3, 4))])
    assert (found.dtype, found.tolist()) == (np.int64, CLASSES[0].tolist())
    assert class_count(output) == (12 if output is LOGITS else None)


def test_each_pixel_takes_the_class_at_its_centre() -> None:
    larger = Geometry((6, 8), (3, 4), (3, 4), (0.5, 0.5))
    assert class_maps(CLASSES, [larger])[0].tolist() == np.kron(CLASSES[0], np.ones((2, 2))).tolist()
    coarse = Geometry.unchanged((12, 16))
    assert class_maps(CLASSES, [coarse])[0].tolist() == np.kron(CLASSES[0], np.ones((4, 4))).tolist()


def test_a_pixel_between_two_cells_goes_by_its_centre_not_by_its_corner() -> None:
    assert class_maps(CLASSES[:, :, 1:3], [Geometry.unchanged((3, 3))])[0][0].tolist() == [1, 2, 2]


def test_what_was_padded_is_left_out() -> None:
    padded = Geometry((2, 3), (2, 3), (3, 4), offset=(1.0, 1.0))
    assert class_maps(CLASSES, [padded])[0].tolist() == CLASSES[0, 1:, 1:].tolist()


@pytest.mark.parametrize("shape", [(1, 3, 4), (1, 1, 3, 4), (1, 12)])
def test_an_output_that_gives_no_classes_is_told(shape: tuple[int, ...]) -> None:
    with pytest.raises(QuantfleetError, match="no class for each pixel") as caught:
        class_maps(np.zeros(shape, np.float32), [Geometry.unchanged((3, 4))])
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED
