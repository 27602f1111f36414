"""Turns a sample's bytes into a model's input, as a PaddleClas inference_cls.yaml says. Not for fetching samples."""

import io
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from quantfleet_domain.errors import ErrorCode, QuantfleetError

from . import fields, operators
from .operators import Image, Operator, SampleMismatchError

_REVISION = 1  # counts up whenever a change here can move a bit of an input tensor
_IMAGENET_MEAN, _IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def revision() -> str:
    """What can move a bit of an input tensor besides the file itself: our revision and the libraries that compute."""
    return f"preprocessing-{_REVISION} opencv-{operators.opencv().__version__} numpy-{np.__version__}"


class Preprocessor(ABC):
    """Maps one sample to one float32 tensor with a batch dimension of 1."""

    @abstractmethod
    def __call__(self, sample: bytes, name: str) -> NDArray[np.float32]:
        """The tensor of the sample called `name`: C-contiguous float32, [1, C, H, W] for a picture.

        Raises QuantfleetError(SAMPLE_UNREADABLE), naming the sample.
        """


@dataclass(frozen=True)
class PicturePreprocessor(Preprocessor):
    """Decodes a picture and applies `steps` to it in order."""

    to_rgb: bool
    steps: tuple[Operator, ...]

    def __call__(self, sample: bytes, name: str) -> NDArray[np.float32]:
        """The picture as float32 [1, C, H, W]."""
        try:
            image: Image = operators.decode(sample, to_rgb=self.to_rgb)
            for step in self.steps:
                image = step(image)
        except SampleMismatchError as error:
            raise _unreadable(name, str(error)) from error
        return np.ascontiguousarray(image[np.newaxis], dtype=np.float32)


@dataclass(frozen=True)
class TensorPreprocessor(Preprocessor):
    """Takes samples that are already tensors: `.npy` files of float32. `shape` is the model's input with batch 1."""

    shape: tuple[int, ...]

    def __call__(self, sample: bytes, name: str) -> NDArray[np.float32]:
        """The stored tensor, with a batch dimension of 1 put before it if it has none."""
        try:
            tensor = np.load(io.BytesIO(sample), allow_pickle=False)
        except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise _unreadable(name, f"it is no .npy file ({error})") from error
        if not isinstance(tensor, np.ndarray) or tensor.dtype != np.float32:
            raise _unreadable(name, f"it holds {getattr(tensor, 'dtype', 'an archive')}, not float32")
        if tensor.shape == self.shape[1:]:
            tensor = tensor[np.newaxis]
        if tensor.shape != self.shape:
            raise _unreadable(name, f"its shape is {list(tensor.shape)}, the model's input is {list(self.shape)}")
        return np.ascontiguousarray(tensor)


def parse(text: str) -> Preprocessor:
    """The preprocessor that a PaddleClas inference file describes (`PreProcess.transform_ops`).

    Format: https://github.com/PaddlePaddle/PaddleClas, ppcls/data/preprocess. Raises
    QuantfleetError(PREPROCESS_INVALID), which says where the file is wrong and what was probably meant.
    """
    steps = _transform_ops(text)
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
            _only(arguments, "to_np", False, where)
            _only(arguments, "channel_first", False, where)
            _only(arguments, "backend", "cv2", where)
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
    return PicturePreprocessor(to_rgb, tuple(built))


def _transform_ops(text: str) -> list[tuple[str, Mapping[str, Any], str]]:
    try:
        document = fields.mapping(yaml.safe_load(text), "the file")
    except yaml.YAMLError as error:
        raise fields.invalid("the file", f"not YAML: {error}") from error
    section = fields.mapping(document.get("PreProcess"), "PreProcess")
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
    _only(arguments, "output_fp16", False, where)
    _only(arguments, "channel_num", 3, where)
    order = arguments.get("order", "chw")
    if order not in ("chw", "hwc", ""):
        raise fields.invalid(f"{where}.order", f"expected chw or hwc, found {order!r}")
    if (order == "chw") != channels_first:
        layout, right = ("[C, H, W]", "chw") if channels_first else ("[H, W, C]", "hwc")
        raise fields.invalid(f"{where}.order", f"the image is {layout} here, order says {order!r}", f"write {right}")
    std = fields.channel_values(arguments.get("std", _IMAGENET_STD), f"{where}.std")
    if 0.0 in std:
        raise fields.invalid(f"{where}.std", "a standard deviation of 0 divides by zero")
    return operators.normalize(
        fields.number(arguments.get("scale", "1.0/255.0"), f"{where}.scale"),
        fields.channel_values(arguments.get("mean", _IMAGENET_MEAN), f"{where}.mean"),
        std,
        channels_first=channels_first,
    )


def _resize(arguments: Mapping[str, Any], where: str) -> Operator:
    fields.known_keys(arguments, ("resize_short", "size", "interpolation", "backend", "return_numpy"), where)
    _only(arguments, "backend", "cv2", where)
    name = arguments.get("interpolation") or "bilinear"
    if name not in operators.INTERPOLATIONS:
        raise fields.invalid(
            f"{where}.interpolation", f"unknown: {name!r}", fields.nearest(str(name), operators.INTERPOLATIONS)
        )
    interpolation = operators.INTERPOLATIONS[name]
    if ("resize_short" in arguments) == ("size" in arguments):
        raise fields.invalid(where, "expected either resize_short or size")
    if "resize_short" in arguments:
        return operators.resize_short(fields.pixels(arguments["resize_short"], f"{where}.resize_short"), interpolation)
    return operators.resize_to(*fields.width_height(arguments["size"], f"{where}.size"), interpolation)


def _crop(arguments: Mapping[str, Any], where: str) -> Operator:
    fields.known_keys(arguments, ("size",), where)
    if "size" not in arguments:
        raise fields.invalid(where, "size is missing")
    return operators.crop(*fields.width_height(arguments["size"], f"{where}.size"))


_GEOMETRY: dict[str, Callable[[Mapping[str, Any], str], Operator]] = {"ResizeImage": _resize, "CropImage": _crop}
_OPERATORS = ("DecodeImage", "NormalizeImage", "ToCHWImage", *_GEOMETRY)


def _only(arguments: Mapping[str, Any], key: str, offered: object, where: str) -> None:
    """Accept a key that PaddleClas knows where it says what is done here anyway."""
    if key in arguments and arguments[key] != offered:
        raise fields.invalid(f"{where}.{key}", f"only {offered!r} is supported, found {arguments[key]!r}")


def _unreadable(name: str, problem: str) -> QuantfleetError:
    return QuantfleetError(
        ErrorCode.SAMPLE_UNREADABLE, f"sample {name}: {problem}", "repair it or take it out of the data"
    )
