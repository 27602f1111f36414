"""A model's own configuration, recognised by its content. Not for the formats themselves, nor for finding the file."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import yaml

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_domain.jobs.spec import OutputKind
from quantfleet_worker.postprocessing.suppression import Suppression

from . import fields, paddle_clas, paddle_detection, paddle_seg
from .preprocessor import PicturePreprocessor, Preprocessor
from .texts import TextPreprocessor

_FILES = {
    paddle_clas.KEY: "inference_cls.yaml",
    paddle_detection.KEY: "infer_cfg.yml",
    paddle_seg.KEY: "deploy.yaml",
}


@dataclass(frozen=True)
class Configuration:
    """How samples become a model's inputs, and what its outputs are where the job does not say."""

    preprocessor: Callable[[Sequence[InputTensor]], Preprocessor]
    kind: OutputKind = OutputKind.CLASSES
    suppression: Suppression = field(default_factory=Suppression)


def parse(text: str) -> Configuration:
    """The configuration in a file of PaddleClas, PaddleDetection or PaddleSeg, or in a tokenizer.json.

    Raises QuantfleetError(PREPROCESS_INVALID), which says where the file is wrong and what was probably meant.
    """
    if text.lstrip().startswith("{"):
        return _of_json(text)
    try:
        document = fields.mapping(yaml.safe_load(text), "the file")
    except yaml.YAMLError as error:
        raise fields.invalid("the file", f"not YAML: {error}") from error
    return _of_yaml(document)


def _of_json(text: str) -> Configuration:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise fields.invalid("the file", f"not JSON: {error}") from error
    if not isinstance(document.get("model"), dict):
        raise fields.invalid("the file", "it is JSON, and no tokenizer.json: it has no model", "give the tokenizer's")
    return Configuration(partial(TextPreprocessor, text))


def _of_yaml(document: Mapping[str, Any]) -> Configuration:
    if paddle_detection.KEY in document:
        steps, suppression = paddle_detection.read(document)
        return Configuration(partial(PicturePreprocessor, steps), OutputKind.BOXES, suppression)
    if paddle_seg.KEY in document:
        return Configuration(partial(PicturePreprocessor, paddle_seg.read(document)), OutputKind.PIXELS)
    if paddle_clas.KEY in document:
        return Configuration(partial(PicturePreprocessor, paddle_clas.read(document)))
    known = ", ".join(f"{key} ({name})" for key, name in _FILES.items())
    found = ", ".join(document) or "nothing"
    raise fields.invalid("the file", f"expected one of the keys {known}, found {found}")
