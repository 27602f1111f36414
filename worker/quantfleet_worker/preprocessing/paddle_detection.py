"""Reads PaddleDetection's infer_cfg.yml (`Preprocess`, `arch`, `NMS`). Not for running what it says.

Format: https://github.com/PaddlePaddle/PaddleDetection, deploy/python/preprocess.py and ppdet/engine/export_utils.py.
"""

from collections.abc import Mapping
from typing import Any

from quantfleet_worker.postprocessing.suppression import Suppression

from . import fields, operators
from .operators import Operator
from .preprocessor import PictureSteps

KEY = "Preprocess"
_NMS_KEYS = ("name", "score_threshold", "nms_threshold", "nms_top_k", "keep_top_k")
_GREY = (114.0, 114.0, 114.0)
_JDE_GREY = (128.0, 128.0, 128.0)  # it says 127.5, which OpenCV rounds into 8 bits
_AREA = operators.INTERPOLATIONS["area"]


def read(document: Mapping[str, Any]) -> tuple[PictureSteps, Suppression]:
    """The steps of the file, on RGB pictures, and how its boxes are suppressed.

    Raises QuantfleetError(PREPROCESS_INVALID), which says where the file is wrong and what was probably meant.
    """
    yolo = str(document.get("arch", "")).upper().startswith("YOLO")
    channels_first = False
    built: list[Operator] = []
    for name, arguments, where in fields.typed_steps(document.get(KEY), _KEYS, KEY):
        fields.known_keys(arguments, _KEYS[name], where)
        if channels_first and name not in ("NormalizeImage", "PadStride"):
            raise fields.invalid(where, f"{name} works on [H, W, C] and comes after Permute", "put it before Permute")
        if name == "PadStride" and not channels_first:
            raise fields.invalid(where, "PadStride works on [C, H, W] and comes before Permute", "put it after Permute")
        if name == "Resize":
            built.append(_resize(arguments, where))
        elif name == "LetterBoxResize":
            width, height = _sides(arguments, "target_size", where)
            # YOLOv5 to v7 are trained on this grey; PaddleDetection's own letterbox is that of JDE, a tracker.
            how = (operators.LINEAR, _GREY) if yolo else (_AREA, _JDE_GREY)
            built.append(operators.letterbox(width, height, *how))
        elif name == "Pad":
            width, height = _sides(arguments, "size", where)
            fill = fields.channel_values(arguments.get("fill_value", list(_GREY)), f"{where}.fill_value")
            built.append(operators.pad_to(width, height, fill))
        elif name == "NormalizeImage":
            built.append(_normalize(arguments, where, channels_first))
        elif name == "Permute":
            built.append(operators.to_chw)
            channels_first = True
        else:
            built.extend(_pad_stride(arguments, where))
    if not channels_first:
        raise fields.invalid(KEY, "there is no Permute", "add `- type: Permute` at the end")
    return PictureSteps(True, tuple(built)), _suppression(document.get("NMS"))


def _sides(arguments: Mapping[str, Any], key: str, where: str) -> tuple[int, int]:
    """(width, height) of what is written as one number for a square, or as [height, width]."""
    height, width = fields.width_height(fields.required(arguments, key, where), f"{where}.{key}")
    return width, height


def _resize(arguments: Mapping[str, Any], where: str) -> Operator:
    width, height = _sides(arguments, "target_size", where)
    interpolation = arguments.get("interp", operators.LINEAR)
    if interpolation not in operators.INTERPOLATIONS.values():
        raise fields.invalid(f"{where}.interp", f"expected OpenCV's number, 0 to 4, found {interpolation!r}")
    if fields.boolean(arguments.get("keep_ratio", True), f"{where}.keep_ratio"):
        return operators.resize_within(min(width, height), max(width, height), interpolation)
    return operators.resize_to(width, height, interpolation)


def _normalize(arguments: Mapping[str, Any], where: str, channels_first: bool) -> Operator:
    kind = arguments.get("norm_type", "mean_std")
    fields.choice(kind, {"mean_std": 0, "none": 1}, f"{where}.norm_type")
    mean, std = [0.0] * 3, [1.0] * 3
    if kind == "mean_std":
        mean, std = (fields.required(arguments, key, where) for key in ("mean", "std"))
    return operators.normalize(
        1 / 255 if fields.boolean(arguments.get("is_scale", True), f"{where}.is_scale") else 1.0,
        fields.channel_values(mean, f"{where}.mean"),
        fields.deviations(std, f"{where}.std"),
        channels_first=channels_first,
    )


def _pad_stride(arguments: Mapping[str, Any], where: str) -> list[Operator]:
    stride = arguments.get("stride", 0)
    if isinstance(stride, int) and stride <= 0:  # exported for models that need no padding
        return []
    return [operators.pad_to_multiple(fields.pixels(stride, f"{where}.stride"))]


def _suppression(section: Any) -> Suppression:
    given = fields.mapping(section, "NMS")
    fields.known_keys(given, _NMS_KEYS, "NMS")
    default = Suppression()
    counts = {"nms_top_k": default.before, "keep_top_k": default.keep}
    for key in counts:
        counts[key] = given.get(key, counts[key])
        if counts[key] != -1:
            fields.pixels(counts[key], f"NMS.{key}")
    return Suppression(
        fields.number(given.get("score_threshold", default.score), "NMS.score_threshold"),
        fields.number(given.get("nms_threshold", default.overlap), "NMS.nms_threshold"),
        counts["nms_top_k"],
        counts["keep_top_k"],
    )


_KEYS = {
    "Resize": ("target_size", "keep_ratio", "interp"),
    "LetterBoxResize": ("target_size",),
    "Pad": ("size", "fill_value"),
    "NormalizeImage": ("mean", "std", "is_scale", "norm_type"),
    "Permute": (),
    "PadStride": ("stride",),
}
