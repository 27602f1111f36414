import io
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.postprocessing.classes import top_classes
from quantfleet_worker.preprocessing import configuration
from quantfleet_worker.preprocessing.preprocessor import revision
from quantfleet_worker.preprocessing.tensors import TensorPreprocessor

FILE = """
PreProcess:
  transform_ops:
    - DecodeImage:
        to_rgb: True
        channel_first: False
    - ResizeImage:
        resize_short: 16
        interpolation: bilinear
    - CropImage:
        size: 8
    - NormalizeImage:
        scale: 1.0/255.0
        mean: [0.5, 0.25, 0.0]
        std: [0.5, 1.0, 2.0]
        order: hwc
    - ToCHWImage:
PostProcess:
  main_indicator: Topk
  Topk:
    topk: 3
"""


INPUT = InputTensor("x", (1, 3, 2, 2), "float32")


def parse(text: str) -> Callable[[bytes, str], np.ndarray]:
    """The file's preprocessing for a model with one input."""
    preprocessor = configuration.parse(text).preprocessor((INPUT,))
    return lambda sample, name: preprocessor(sample, name).feeds["x"]


def png(pixels: np.ndarray) -> bytes:
    written, encoded = cv2.imencode(".png", pixels)
    assert written
    return encoded.tobytes()


def npy(tensor: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, tensor)
    return stream.getvalue()


def refused(text: str) -> str:
    with pytest.raises(QuantfleetError) as caught:
        parse(text)
    assert caught.value.code is ErrorCode.PREPROCESS_INVALID
    return str(caught.value)


def test_a_picture_is_decoded_resized_cropped_and_normalized_in_the_order_of_the_file() -> None:
    bgr = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    tensor = parse(FILE)(png(bgr), "a.png")
    cut = bgr[4:12, 6:14, ::-1].astype(np.float32) * np.float32(1 / 255)
    expected = (cut - np.array([0.5, 0.25, 0.0], np.float32)) / np.array([0.5, 1.0, 2.0], np.float32)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_array_equal(tensor, expected.transpose(2, 0, 1)[None])


def test_bgr_is_kept_where_the_file_does_not_want_rgb() -> None:
    bgr = np.zeros((16, 16, 3), np.uint8)
    bgr[:, :, 0] = 255
    rgb_first = parse(FILE)(png(bgr), "a")[0, :, 0, 0]
    bgr_first = parse(FILE.replace("to_rgb: True", "to_rgb: False"))(png(bgr), "a")[0, :, 0, 0]
    assert rgb_first[2] == np.float32(0.5)
    assert bgr_first[0] == np.float32(1.0)


def test_the_shorter_side_becomes_what_the_file_says() -> None:
    text = FILE.replace("- CropImage:\n        size: 8", "- CropImage:\n        size: [20, 16]")
    assert parse(text)(png(np.zeros((32, 40, 3), np.uint8)), "a").shape == (1, 3, 16, 20)


def test_a_size_gives_width_before_height() -> None:
    text = FILE.replace("resize_short: 16", "size: [12, 10]")
    assert parse(text)(png(np.zeros((9, 9, 3), np.uint8)), "a").shape == (1, 3, 8, 8)


def test_normalizing_after_the_transposition_needs_the_order_chw() -> None:
    head, tail = FILE.split("    - NormalizeImage:")
    block, post = tail.split("    - ToCHWImage:")
    swapped = head + "    - ToCHWImage:\n    - NormalizeImage:" + block + post
    picture = png(np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    assert "write chw" in refused(swapped)
    np.testing.assert_array_equal(parse(swapped.replace("hwc", "chw"))(picture, "a"), parse(FILE)(picture, "a"))


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("CropImage", "CropImag", "PreProcess.transform_ops[2].CropImag: unknown operator (did you mean CropImage?)"),
        ("resize_short", "resize_shorts", "did you mean resize_short?"),
        ("bilinear", "bilinaer", "did you mean bilinear?"),
        ("1.0/255.0", "__import__('os')", "expected a number or a quotient"),
        ("1.0/255.0", "1.0/0", "expected a number or a quotient"),
        ("[0.5, 0.25, 0.0]", "[0.5, 0.25]", "three numbers"),
        ("[0.5, 1.0, 2.0]", "[0.5, 0.0, 2.0]", "divides by zero"),
        ("size: 8", "size: -8", "positive whole number"),
        ("to_rgb: True", "to_rgb: maybe", "True or False"),
        ("    - ToCHWImage:\n", "", "there is no ToCHWImage"),
        ("transform_ops:", "transform:", "PreProcess.transform_ops: missing"),
        ("PreProcess:", "Preprocess:", "Preprocess: expected a list of operators"),
        ("PreProcess:", "PreProces:", "expected one of the keys PreProcess (inference_cls.yaml)"),
        ("order: hwc", "order: [", "not YAML"),
        ("channel_first: False", "channel_first: True", "only False is supported"),
    ],
)
def test_a_mistake_in_the_file_is_located_and_corrected(wrong: str, right: str, said: str) -> None:
    assert said in refused(FILE.replace(wrong, right))


def test_the_crops_of_a_small_picture_and_broken_files_name_the_sample() -> None:
    preprocessor = parse(FILE.replace("size: 8", "size: 64"))
    for sample in (png(np.zeros((16, 16, 3), np.uint8)), b"", b"not a picture"):
        with pytest.raises(QuantfleetError, match=r"sample cats/1\.jpg") as caught:
            preprocessor(sample, "cats/1.jpg")
        assert caught.value.code is ErrorCode.SAMPLE_UNREADABLE


def test_a_stored_tensor_gains_the_batch_dimension_it_lacks() -> None:
    tensor = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    preprocessor = TensorPreprocessor((INPUT,))

    def identity(sample: bytes, name: str) -> np.ndarray:
        return preprocessor(sample, name).feeds["x"]

    np.testing.assert_array_equal(identity(npy(tensor), "a"), tensor[None])
    np.testing.assert_array_equal(identity(npy(tensor[None]), "a"), tensor[None])


@pytest.mark.parametrize(
    "sample",
    [
        npy(np.zeros((3, 2, 3), np.float32)),
        npy(np.zeros((3, 2, 2), np.float64)),
        npy(np.array([object()])),
        b"PK\x03\x04",
        b"",
    ],
)
def test_a_tensor_that_does_not_fit_names_the_sample(sample: bytes) -> None:
    with pytest.raises(QuantfleetError, match=r"sample a\.npy") as caught:
        TensorPreprocessor((INPUT,))(sample, "a.npy")
    assert caught.value.code is ErrorCode.SAMPLE_UNREADABLE


def test_equal_scores_keep_the_order_of_their_classes() -> None:
    scores = np.array([[[0.1]], [[0.5]], [[0.5]], [[0.0]]], np.float32).reshape(1, 4, 1, 1)
    assert top_classes(scores, 3).tolist() == [[1, 2, 0]]


def test_the_revision_names_the_library_that_decodes() -> None:
    assert f"opencv-{cv2.__version__}" in revision()
