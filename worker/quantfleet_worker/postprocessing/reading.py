"""How the outputs of a batch are read, by what the model says of a sample. Not for how each kind is read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from quantfleet_domain.jobs.spec import OutputKind
from quantfleet_worker.postprocessing.boxes import detections
from quantfleet_worker.postprocessing.classes import BEST, top_classes
from quantfleet_worker.postprocessing.pixels import class_maps
from quantfleet_worker.postprocessing.suppression import Suppression
from quantfleet_worker.preprocessing.geometry import Geometry

Reader = Callable[[Mapping[str, NDArray[Any]], Sequence[Geometry]], object]
"""Outputs by name, in the model's order, and the geometry of each sample; returns one value for each."""


def reader(kind: OutputKind, rule: Suppression, *, restored: bool) -> Reader:
    """The reader of a kind; `rule` and `restored` are for boxes, as `detections` has them."""
    match kind:
        case OutputKind.CLASSES:
            return lambda outputs, _: top_classes(next(iter(outputs.values())), BEST)
        case OutputKind.PIXELS:
            return lambda outputs, geometries: class_maps(next(iter(outputs.values())), geometries)
        case OutputKind.BOXES:
            return lambda outputs, geometries: detections(outputs, geometries, rule, restored=restored)
