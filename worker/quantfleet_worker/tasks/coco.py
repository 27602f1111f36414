"""Mean average precision of boxes against a COCO annotation file, by pycocotools. Not for finding boxes.

Format: https://cocodataset.org/#format-data and #format-results.
"""

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.measured import BoxOutcome
from quantfleet_worker.postprocessing.boxes import Boxes

_UNDEFINED = -1.0  # pycocotools' mean of no values


class Annotations:
    """What a COCO file knows of the boxes in pictures. The model's class k is its k-th category, as it lists them."""

    def __init__(self, content: bytes) -> None:
        """Raises QuantfleetError(DATA_NOT_FOUND) for a file of another form."""
        from pycocotools.coco import COCO

        self._known = COCO()
        try:
            self._known.dataset = json.loads(content)
            for number, annotation in enumerate(self._known.dataset["annotations"], 1):
                # pycocotools takes the id 0 for no match, and needs what COCO's own files always have.
                annotation["id"] = number
                annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
                annotation.setdefault("iscrowd", 0)
            with _silence():
                self._known.createIndex()
            self._categories = [category["id"] for category in self._known.dataset["categories"]]
            self._pictures = {picture["file_name"]: picture["id"] for picture in self._known.dataset["images"]}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _invalid(f"it cannot be read: {error}") from error

    def precision(self, found: Mapping[str, Boxes]) -> BoxOutcome:
        """The mean average precision over these pictures, by file name, and no others.

        Raises DATA_NOT_FOUND for a picture that the file does not name, a class beyond its categories, and where none
        of the pictures has a box.
        """
        from pycocotools.cocoeval import COCOeval

        rows = [row for name, boxes in found.items() for row in self._rows(name, boxes)]
        with _silence():
            evaluation = COCOeval(self._known, self._detections(rows), "bbox")
            evaluation.params.imgIds = [self._pictures[name] for name in found]
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        precision, at_half = (float(figure) for figure in evaluation.stats[:2])
        if precision == _UNDEFINED:
            raise _invalid("it has no box in any of the pictures, so there is no precision")
        return BoxOutcome(len(found), 100 * precision, 100 * at_half)

    def _detections(self, rows: Any) -> Any:
        if rows:
            return self._known.loadRes(rows)
        nothing = type(self._known)()
        nothing.dataset = {**self._known.dataset, "annotations": []}
        nothing.createIndex()
        return nothing

    def _rows(self, name: str, boxes: Boxes) -> list[dict[str, Any]]:
        if name not in self._pictures:
            raise _invalid(f"it does not name picture {name}")
        highest, known = boxes.classes.max(initial=-1), len(self._categories)
        if highest >= known:
            raise _invalid(f"the model finds class {highest} in {name}, and it has {known} categories")
        sizes = boxes.corners[:, 2:] - boxes.corners[:, :2]
        placed = np.concatenate([boxes.corners[:, :2], sizes], axis=1).astype(float).tolist()
        return [
            {"image_id": self._pictures[name], "category_id": self._categories[of], "bbox": box, "score": score}
            for of, box, score in zip(boxes.classes.tolist(), placed, boxes.scores.tolist(), strict=True)
        ]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """pycocotools prints what it does, and an attempt's log is for failures."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _invalid(problem: str) -> QuantfleetError:
    todo = "give a COCO file of the same pictures and the model's own classes, in the model's order"
    return QuantfleetError(ErrorCode.DATA_NOT_FOUND, f"the annotations: {problem}", todo)
