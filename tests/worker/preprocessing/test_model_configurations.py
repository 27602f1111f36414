"""What PaddleDetection's and PaddleSeg's own files say becomes the tensor that their models want."""

import cv2
import numpy as np
import pytest

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.spec import OutputKind
from quantfleet_worker.postprocessing.suppression import Suppression
from quantfleet_worker.preprocessing.configuration import parse
from quantfleet_worker.preprocessing.preprocessor import Prepared

DETECTION = """
mode: paddle
draw_threshold: 0.5
metric: COCO
use_dynamic_shape: false
arch: PicoDet
Preprocess:
- interp: 2
  keep_ratio: false
  target_size: [32, 48]
  type: Resize
- is_scale: true
  mean: [0.5, 0.25, 0.0]
  std: [0.5, 1.0, 2.0]
  type: NormalizeImage
- type: Permute
- {stride: 32, type: PadStride}
label_list: [cat, dog]
NMS:
  keep_top_k: 100
  name: MultiClassNMS
  nms_threshold: 0.5
  nms_top_k: -1
  score_threshold: 0.3
"""
YOLO = """
arch: YOLOv5
Preprocess:
- {type: LetterBoxResize, target_size: 64}
- {type: NormalizeImage, is_scale: true, norm_type: none}
- {type: Permute}
"""
SEGMENTATION = """
Deploy:
  input_shape: [-1, 3, -1, -1]
  model: model.pdmodel
  output_dtype: int32
  output_op: argmax
  params: model.pdiparams
  transforms:
  - {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], type: Normalize}
  - {target_size: [24, 16], type: Resize}
"""
PICTURE = InputTensor("image", (1, 3, 32, 64), "float32")
PAIRS = tuple(InputTensor(name, (1, 2), "float32") for name in ("im_shape", "scale_factor"))


def png(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


def prepared(text: str, pixels: np.ndarray, inputs: tuple[InputTensor, ...] = (PICTURE,)) -> Prepared:
    return parse(text).preprocessor(inputs)(png(pixels), "a.png")


def refused(text: str) -> str:
    with pytest.raises(QuantfleetError) as caught:
        parse(text)
    assert caught.value.code is ErrorCode.PREPROCESS_INVALID
    return str(caught.value)


BGR = np.random.default_rng(0).integers(0, 256, (64, 24, 3), dtype=np.uint8)


def test_a_detectors_picture_is_rgb_resized_normalized_and_padded_to_the_stride() -> None:
    tensor = prepared(DETECTION, BGR).feeds["image"]
    resized = cv2.resize(BGR[:, :, ::-1], (48, 32), interpolation=cv2.INTER_CUBIC).astype(np.float32) / 255
    wanted = ((resized - [0.5, 0.25, 0.0]) / [0.5, 1.0, 2.0]).transpose(2, 0, 1)
    assert (tensor.shape, tensor.dtype) == ((1, 3, 32, 64), np.float32)
    np.testing.assert_allclose(tensor[0, :, :, :48], wanted, atol=1e-5)
    assert not tensor[0, :, :, 48:].any()


def test_a_model_that_asks_for_them_is_told_shape_and_scale_by_name() -> None:
    found = prepared(DETECTION, BGR, (PAIRS[1], InputTensor("x", (1, 3, 32, 64), "float32"), PAIRS[0]))
    assert set(found.feeds) == {"x", "im_shape", "scale_factor"}
    assert found.feeds["im_shape"].tolist() == [[32, 48]]
    assert found.feeds["scale_factor"].tolist() == [[0.5, 2.0]]
    assert found.feeds["im_shape"].dtype == np.float32


def test_a_picture_does_not_feed_a_model_with_two_other_inputs() -> None:
    with pytest.raises(QuantfleetError, match="one float32 input") as caught:
        prepared(DETECTION, BGR, (PICTURE, InputTensor("y", (1, 4), "float32")))
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED


def test_a_yolo_gets_its_picture_in_a_grey_letterbox() -> None:
    found = prepared(YOLO, np.full((32, 16, 3), 255, np.uint8))
    tensor = found.feeds["image"][0, 0]
    assert tensor.shape == (64, 64)
    assert (tensor[:, 16:48] == 1).all()
    np.testing.assert_allclose(tensor[:, :16], 114 / 255, rtol=1e-6)
    assert (found.geometry.scale, found.geometry.offset) == ((2.0, 2.0), (0.0, 16.0))


def test_padding_to_a_size_is_as_a_yolo_is_exported_too() -> None:
    text = YOLO.replace(
        "- {type: LetterBoxResize, target_size: 64}",
        "- {type: Resize, target_size: [64, 64], keep_ratio: true, interp: 1}\n"
        "- {type: Pad, size: [64, 64], fill_value: [255, 0, 0]}",
    )
    tensor = prepared(text, np.zeros((32, 16, 3), np.uint8)).feeds["image"][0]
    assert not tensor[:, :, :32].any()
    assert (tensor[0, :, 32:] == 1).all()
    assert not tensor[1:, :, 32:].any()


def test_the_files_say_what_the_outputs_are_and_how_boxes_are_suppressed() -> None:
    detection = parse(DETECTION)
    assert (detection.kind, detection.suppression) == (OutputKind.BOXES, Suppression(0.3, 0.5, -1, 100))
    assert parse(YOLO).suppression == Suppression()
    assert parse(SEGMENTATION).kind is OutputKind.PIXELS


def test_a_segmenters_picture_is_normalized_and_resized_in_the_order_of_the_file() -> None:
    tensor = prepared(SEGMENTATION, BGR).feeds["image"]
    wanted = cv2.resize((BGR[:, :, ::-1].astype(np.float32) / 255 - 0.5) / 0.5, (24, 16))
    np.testing.assert_allclose(tensor, wanted.transpose(2, 0, 1)[None], atol=1e-5)


def test_the_other_transforms_of_a_segmenter_are_done_too() -> None:
    steps = (
        "- {type: ResizeByLong, long_size: 32}\n"
        "  - {type: Padding, target_size: [20, 32], im_padding_value: [0, 0, 0]}\n"
        "  - {type: ResizeByShort, short_size: 10}"
    )
    found = prepared(SEGMENTATION.replace("- {target_size: [24, 16], type: Resize}", steps), BGR)
    assert found.feeds["image"].shape == (1, 3, 16, 10)
    assert not found.feeds["image"][0, :, :, 7:].any()
    assert prepared("Deploy: {model: a, params: b}", BGR).feeds["image"].shape == (1, 3, 64, 24)


@pytest.mark.parametrize(
    ("text", "wrong", "right", "said"),
    [
        (DETECTION, "type: Resize", "type: Resise", "Preprocess[0].type: unknown operator 'Resise'"),
        (DETECTION, "type: Resize", "type: Resise", "did you mean Resize?"),
        (DETECTION, "keep_ratio", "keep_ration", "Preprocess[0].keep_ration: unknown key (did you mean keep_ratio?)"),
        (DETECTION, "interp: 2", "interp: 9", "Preprocess[0].interp: expected OpenCV's number"),
        (DETECTION, "[32, 48]", "[32]", "Preprocess[0].target_size: expected one number or a pair"),
        (DETECTION, "  target_size: [32, 48]\n", "", "Preprocess[0]: target_size is missing"),
        (DETECTION, "[0.5, 1.0, 2.0]", "[0, 1, 1]", "Preprocess[1].std: a standard deviation of 0"),
        (DETECTION, "is_scale: true", "norm_type: mean", "Preprocess[1].norm_type: unknown: 'mean'"),
        (DETECTION, "- type: Permute\n", "", "put it after Permute"),
        (DETECTION, "nms_top_k: -1", "nms_topk: 4", "NMS.nms_topk: unknown key (did you mean nms_top_k?)"),
        (DETECTION, "nms_top_k: -1", "nms_top_k: many", "NMS.nms_top_k: expected a positive whole number"),
        (YOLO, "- {type: Permute}\n", "", "there is no Permute"),
        (YOLO, "- {type: LetterBoxResize", "- {type: Permute}\n- {type: LetterBoxResize", "put it before Permute"),
        (SEGMENTATION, "type: Normalize", "type: Normalise", "Deploy.transforms[0].type: unknown operator 'Normalise'"),
        (SEGMENTATION, "transforms", "transform", "Deploy.transform: unknown key (did you mean transforms?)"),
        (SEGMENTATION, "type: Resize", "type: Resize, keep_ratio: true", "only False is supported"),
        (SEGMENTATION, "type: Resize", "type: Resize, interp: LINEA", "did you mean LINEAR?"),
        (SEGMENTATION, "Deploy:", "Deploi:", "found Deploi"),
    ],
)
def test_a_mistake_in_the_file_is_located_and_corrected(text: str, wrong: str, right: str, said: str) -> None:
    assert wrong in text
    assert said in refused(text.replace(wrong, right))
