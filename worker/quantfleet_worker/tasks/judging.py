"""Compares what a model says of samples with what is known of them. Not for metrics, which are computed of all shards.

Boxes are the exception: their metric does not add up from shards, so it is computed here.
"""

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from PIL import Image, UnidentifiedImageError

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Sample
from quantfleet_domain.jobs.measured import (
    BoxOutcome,
    ClassOutcome,
    Outcome,
    PixelOutcome,
)
from quantfleet_domain.jobs.spec import FileRef, OutputKind
from quantfleet_worker.engines.base import Array
from quantfleet_worker.postprocessing.boxes import Boxes, detections
from quantfleet_worker.postprocessing.classes import BEST, top_classes
from quantfleet_worker.postprocessing.pixels import class_count, class_maps
from quantfleet_worker.postprocessing.suppression import Suppression
from quantfleet_worker.preprocessing.geometry import Geometry
from quantfleet_worker.tasks.coco import Annotations
from quantfleet_worker.tasks.feeding import Feeder
from quantfleet_worker.tasks.workspace import Workspace

_NOT_JUDGED = 255
_MASK_CLASSES = 256


class Judge(ABC):
    """Takes in samples one by one."""

    @abstractmethod
    def add(self, sample: Sample, outputs: Mapping[str, Array], geometry: Geometry) -> None:
        """Compare the outputs of one sample, of batch 1, with its truth."""

    @abstractmethod
    def outcome(self) -> Outcome:
        """What all samples so far came to."""


def judge(kind: OutputKind, annotations: FileRef | None, workspace: Workspace, feed: Feeder) -> Judge:
    """The judge of what a model of this kind says. Raises DATA_NOT_FOUND where there are no annotations to judge boxes
    by."""
    match kind:
        case OutputKind.CLASSES:
            return ClassJudge()
        case OutputKind.PIXELS:
            return PixelJudge(workspace)
        case OutputKind.BOXES:
            if annotations is None:
                raise _unknown("the data set", "annotations", "name a COCO file: data: {annotations: FILE}")
            return BoxJudge(Annotations(workspace.read(annotations)), feed.configuration.suppression, feed.restored)


class ClassJudge(Judge):
    """Compares classes with labels."""

    def __init__(self) -> None:
        self._labels: list[int] = []
        self._predicted: list[int] = []
        self._in_top5: list[bool] = []

    def add(self, sample: Sample, outputs: Mapping[str, Array], geometry: Geometry) -> None:  # noqa: ARG002 - one signature for all judges
        """See Judge. Raises DATA_NOT_FOUND for a sample without label."""
        if sample.label is None:
            raise _unknown(f"sample {sample.name}", "label", "name it in the list file: path label")
        best = top_classes(next(iter(outputs.values())), BEST)[0].tolist()
        self._labels.append(sample.label)
        self._predicted.append(best[0])
        self._in_top5.append(sample.label in best)

    def outcome(self) -> ClassOutcome:
        """See Judge."""
        return ClassOutcome(tuple(self._labels), tuple(self._predicted), tuple(self._in_top5))


class PixelJudge(Judge):
    """Compares the class of every pixel with a mask."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._samples = 0
        self._classes: int | None = None
        self._counts = np.zeros((_MASK_CLASSES, _MASK_CLASSES), np.int64)

    def add(self, sample: Sample, outputs: Mapping[str, Array], geometry: Geometry) -> None:
        """See Judge. Raises DATA_NOT_FOUND for a sample without mask, SAMPLE_UNREADABLE for a mask that is no 8-bit
        picture, of another size than the sample, or with a class that the model does not know."""
        if sample.mask is None:
            raise _unknown(f"sample {sample.name}", "mask", "name it in the list file: picture mask")
        output = next(iter(outputs.values()))
        predicted = class_maps(output, [geometry])[0]
        self._classes = class_count(output)
        truth = _mask(sample.mask, self._workspace.read(sample.mask))
        if truth.shape != predicted.shape:
            found, wanted = (f"{columns}x{rows}" for rows, columns in (truth.shape, predicted.shape))
            raise _bad_mask(sample.mask, f"it is {found} pixels, and sample {sample.name} is {wanted}")
        judged = truth != _NOT_JUDGED
        truth, predicted = truth[judged].astype(np.int64), predicted[judged]
        if self._classes is not None and truth.max(initial=0) >= self._classes:
            raise _bad_mask(sample.mask, f"class {truth.max()} is in it, and the model has {self._classes} classes")
        if predicted.max(initial=0) >= _MASK_CLASSES or predicted.min(initial=0) < 0:
            raise QuantfleetError(ErrorCode.MODEL_UNSUPPORTED, f"for sample {sample.name} the model gives no classes")
        pairs = np.bincount(truth * _MASK_CLASSES + predicted, minlength=_MASK_CLASSES**2)
        self._counts += pairs.reshape(self._counts.shape)
        self._samples += 1

    def outcome(self) -> PixelOutcome:
        """See Judge."""
        occurring = np.flatnonzero(self._counts.any(axis=0) | self._counts.any(axis=1))
        classes = int(occurring.max(initial=-1)) + 1 if self._classes is None else min(self._classes, _MASK_CLASSES)
        counts = self._counts[:classes, :classes].ravel()
        return PixelOutcome(self._samples, classes, tuple(counts.tolist()))


class BoxJudge(Judge):
    """Compares boxes with COCO annotations."""

    def __init__(self, annotations: Annotations, rule: Suppression, restored: bool) -> None:
        self._annotations = annotations
        self._rule = rule
        self._restored = restored
        self._found: dict[str, Boxes] = {}

    def add(self, sample: Sample, outputs: Mapping[str, Array], geometry: Geometry) -> None:
        """See Judge. Raises MODEL_UNSUPPORTED for outputs of no known form."""
        (self._found[sample.name],) = detections(outputs, [geometry], self._rule, restored=self._restored)

    def outcome(self) -> BoxOutcome:
        """See Judge. Raises what `Annotations.precision` raises."""
        return self._annotations.precision(self._found)


def _mask(ref: FileRef, content: bytes) -> Array:
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode not in ("L", "P"):
                raise _bad_mask(ref, f"its pixels are {image.mode}, not one number of 8 bits")
            return np.asarray(image)
    except (UnidentifiedImageError, OSError) as error:
        raise _bad_mask(ref, f"it is no picture ({error})") from error


def _bad_mask(ref: FileRef, problem: str) -> QuantfleetError:
    todo = "give an 8-bit PNG of class numbers, 255 for what is not judged, as large as its picture"
    return QuantfleetError(ErrorCode.SAMPLE_UNREADABLE, f"mask {ref.name}: {problem}", todo)


def _unknown(what: str, truth: str, todo: str) -> QuantfleetError:
    return QuantfleetError(ErrorCode.DATA_NOT_FOUND, f"{what} has no {truth}", todo)
