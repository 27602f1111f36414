"""Reads PaddleSeg's deploy.yaml (`Deploy.transforms`). Not for running what it says.

Format: https://github.com/PaddlePaddle/PaddleSeg, tools/export.py and paddleseg/transforms.
"""

from collections.abc import Callable, Mapping
from typing import Any

from . import fields, operators
from .operators import Operator
from .preprocessor import PictureSteps

KEY = "Deploy"
_DEPLOY_KEYS = ("model", "params", "transforms", "input_shape", "output_op", "output_dtype")
_INTERPOLATIONS = {"NEAREST": 0, "LINEAR": 1, "CUBIC": 2, "AREA": 3, "LANCZOS4": 4}
_HALF = [0.5, 0.5, 0.5]
_GREY = [127.5, 127.5, 127.5]


def read(document: Mapping[str, Any]) -> PictureSteps:
    """The steps of the file, on RGB pictures; the transposition to [C, H, W] that PaddleSeg adds comes last.

    Raises QuantfleetError(PREPROCESS_INVALID), which says where the file is wrong and what was probably meant.
    """
    deploy = fields.mapping(document[KEY], KEY)
    fields.known_keys(deploy, _DEPLOY_KEYS, KEY)
    built = []
    for name, arguments, where in fields.typed_steps(deploy.get("transforms"), _BUILT, f"{KEY}.transforms"):
        keys, build = _BUILT[name]
        fields.known_keys(arguments, keys, where)
        built.append(build(arguments, where))
    return PictureSteps(True, (*built, operators.to_chw))


def _normalize(arguments: Mapping[str, Any], where: str) -> Operator:
    mean = fields.channel_values(arguments.get("mean", _HALF), f"{where}.mean")
    std = fields.deviations(arguments.get("std", _HALF), f"{where}.std")
    return operators.normalize(1 / 255, mean, std, channels_first=False)


def _resize(arguments: Mapping[str, Any], where: str) -> Operator:
    fields.only(arguments, "keep_ratio", False, where)
    fields.only(arguments, "size_divisor", None, where)
    width, height = fields.width_height(arguments.get("target_size", [512, 512]), f"{where}.target_size")
    interpolation = fields.choice(arguments.get("interp", "LINEAR"), _INTERPOLATIONS, f"{where}.interp")
    return operators.resize_to(width, height, interpolation)


def _resize_long(arguments: Mapping[str, Any], where: str) -> Operator:
    longest = fields.pixels(fields.required(arguments, "long_size", where), f"{where}.long_size")
    return operators.resize_long(longest, operators.LINEAR)


def _resize_short(arguments: Mapping[str, Any], where: str) -> Operator:
    shortest = fields.pixels(fields.required(arguments, "short_size", where), f"{where}.short_size")
    return operators.resize_short(shortest, operators.LINEAR)


def _padding(arguments: Mapping[str, Any], where: str) -> Operator:
    width, height = fields.width_height(fields.required(arguments, "target_size", where), f"{where}.target_size")
    fill = fields.channel_values(arguments.get("im_padding_value", _GREY), f"{where}.im_padding_value")
    return operators.pad_to(width, height, fill)


_BUILT: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any], str], Operator]]] = {
    "Normalize": (("mean", "std"), _normalize),
    "Resize": (("target_size", "interp", "keep_ratio", "size_divisor"), _resize),
    "ResizeByLong": (("long_size",), _resize_long),
    "ResizeByShort": (("short_size",), _resize_short),
    "Padding": (("target_size", "im_padding_value", "label_padding_value"), _padding),
}
