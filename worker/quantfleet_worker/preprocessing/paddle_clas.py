"""Reads PaddleClas's inference_cls.yaml (`PreProcess.transform_ops`). Not for running what it says.

Format: https://github.com/PaddlePaddle/PaddleClas, ppcls/data/preprocess.
"""

from collections.abc import Callable, Mapping
from typing import Any

from . import fields, operators
from .operators import Operator
from .preprocessor import PictureSteps

KEY = "PreProcess"
_IMAGENET_MEAN, _IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def read(document: Mapping[str, Any]) -> PictureSteps:
    """The steps of the file. Raises QuantfleetError(PREPROCESS_INVALID), which says where it is wrong and what was
    probably meant."""
    steps = _transform_ops(document)
    to_rgb = True
    channels_first = False
    normalized = False
    built: list[Operator] = []
    for index, (name, arguments, where) in enumerate(steps):
        if (name == "DecodeImage") != (index == 0):
            raise fields.invalid(where, "DecodeImage must be the first operator, and only that")
        if name == "DecodeImage":
            fields.known_keys(arguments, ("to_rgb", "to_np", "channel_first", "backend"), where)
            to_rgb = fields.boolean(arguments.get("to_rgb", True), f"{where}.to_rgb")
            fields.only(arguments, "to_np", False, where)
            fields.only(arguments, "channel_first", False, where)
            fields.only(arguments, "backend", "cv2", where)
        elif channels_first and name != "NormalizeImage":
            raise fields.invalid(where, "it works on [H, W, C] and comes after ToCHWImage", "put it before ToCHWImage")
        elif name == "NormalizeImage":
            built.append(_normalize(arguments, where, channels_first))
            normalized = True
        elif name == "ToCHWImage":
            fields.known_keys(arguments, (), where)
            built.append(operators.to_chw)
            channels_first = True
        else:
            built.append(_GEOMETRY[name](arguments, where))
    if not channels_first:
        raise fields.invalid("PreProcess.transform_ops", "there is no ToCHWImage", "add `- ToCHWImage:` at the end")
    if not normalized:
        raise fields.invalid("PreProcess.transform_ops", "there is no NormalizeImage", "add the model's mean and std")
    return PictureSteps(to_rgb, tuple(built))


def _transform_ops(document: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], str]]:
    section = fields.mapping(document.get(KEY), KEY)
    listed = section.get("transform_ops")
    if not isinstance(listed, list) or not listed:
        raise fields.invalid("PreProcess.transform_ops", "missing or empty", "list the operators, DecodeImage first")
    steps = []
    for index, entry in enumerate(listed):
        where = f"PreProcess.transform_ops[{index}]"
        named = {entry: None} if isinstance(entry, str) else fields.mapping(entry, where)
        if len(named) != 1:
            raise fields.invalid(where, "expected one operator")
        ((name, arguments),) = named.items()
        if name not in _OPERATORS:
            raise fields.invalid(f"{where}.{name}", "unknown operator", fields.nearest(name, _OPERATORS))
        steps.append((name, fields.mapping(arguments, f"{where}.{name}"), f"{where}.{name}"))
    return steps


def _normalize(arguments: Mapping[str, Any], where: str, channels_first: bool) -> Operator:
    fields.known_keys(arguments, ("scale", "mean", "std", "order", "output_fp16", "channel_num"), where)
    fields.only(arguments, "output_fp16", False, where)
    fields.only(arguments, "channel_num", 3, where)
    order = arguments.get("order", "chw")
    if order not in ("chw", "hwc", ""):
        raise fields.invalid(f"{where}.order", f"expected chw or hwc, found {order!r}")
    if (order == "chw") != channels_first:
        layout, right = ("[C, H, W]", "chw") if channels_first else ("[H, W, C]", "hwc")
        raise fields.invalid(f"{where}.order", f"the image is {layout} here, order says {order!r}", f"write {right}")
    return operators.normalize(
        fields.number(arguments.get("scale", "1.0/255.0"), f"{where}.scale"),
        fields.channel_values(arguments.get("mean", _IMAGENET_MEAN), f"{where}.mean"),
        fields.deviations(arguments.get("std", _IMAGENET_STD), f"{where}.std"),
        channels_first=channels_first,
    )


def _resize(arguments: Mapping[str, Any], where: str) -> Operator:
    fields.known_keys(arguments, ("resize_short", "size", "interpolation", "backend", "return_numpy"), where)
    fields.only(arguments, "backend", "cv2", where)
    name = arguments.get("interpolation") or "bilinear"
    interpolation = fields.choice(name, operators.INTERPOLATIONS, f"{where}.interpolation")
    if ("resize_short" in arguments) == ("size" in arguments):
        raise fields.invalid(where, "expected either resize_short or size")
    if "resize_short" in arguments:
        return operators.resize_short(fields.pixels(arguments["resize_short"], f"{where}.resize_short"), interpolation)
    return operators.resize_to(*fields.width_height(arguments["size"], f"{where}.size"), interpolation)


def _crop(arguments: Mapping[str, Any], where: str) -> Operator:
    fields.known_keys(arguments, ("size",), where)
    return operators.crop(*fields.width_height(fields.required(arguments, "size", where), f"{where}.size"))


_GEOMETRY: dict[str, Callable[[Mapping[str, Any], str], Operator]] = {"ResizeImage": _resize, "CropImage": _crop}
_OPERATORS = ("DecodeImage", "NormalizeImage", "ToCHWImage", *_GEOMETRY)
