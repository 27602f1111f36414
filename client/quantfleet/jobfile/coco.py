"""Which pictures a COCO annotation file names, and whether it can be judged by. Not for judging.

Format: https://cocodataset.org/#format-data.
"""

import json
from pathlib import Path
from typing import Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError

_PARTS = ("images", "annotations", "categories")


def pictures(file: Path) -> tuple[str, ...]:
    """The file names of its pictures, in its order.

    Raises QuantfleetError(DATA_NOT_FOUND) naming the entry that is wrong: one without a name, id or box, a name or id
    that stands twice, and a box of a picture or category that the file does not have.
    """
    document = _read(file)
    names = [_entry(file, "images", index, "file_name", str, row) for index, row in enumerate(document["images"])]
    images = _ids(file, document, "images")
    categories = _ids(file, document, "categories")
    for index, row in enumerate(document["annotations"]):
        if _entry(file, "annotations", index, "image_id", int, row) not in images:
            raise _invalid(file, f"annotations[{index}] is of image_id {row['image_id']}, which is not in images")
        if _entry(file, "annotations", index, "category_id", int, row) not in categories:
            what = f"annotations[{index}] is of category_id {row['category_id']}, which is not in categories"
            raise _invalid(file, what)
        box = _entry(file, "annotations", index, "bbox", list, row)
        if len(box) != 4 or not all(type(value) in (int, float) for value in box):
            raise _invalid(file, f"annotations[{index}].bbox is {box!r:.60}, not x, y, width, height")
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise _invalid(file, f"{twice} stands in images twice")
    return tuple(names)


def _read(file: Path) -> dict[str, list[Any]]:
    try:
        document = json.loads(file.read_bytes())
    except OSError as error:
        raise _invalid(file, f"it cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _invalid(file, f"it is not JSON: {error}") from error
    for part in _PARTS:
        if not isinstance(document, dict) or not isinstance(document.get(part), list):
            raise _invalid(file, f"it has no list {part}")
    return {part: document[part] for part in _PARTS}


def _ids(file: Path, document: dict[str, list[Any]], part: str) -> set[int]:
    found: set[int] = set()
    for index, row in enumerate(document[part]):
        number = _entry(file, part, index, "id", int, row)
        if number in found:
            raise _invalid(file, f"{part}[{index}].id is {number} a second time")
        found.add(number)
    return found


def _entry(file: Path, part: str, index: int, key: str, kind: type, row: Any) -> Any:
    value = row.get(key) if isinstance(row, dict) else None
    if type(value) is not kind:
        raise _invalid(file, f"{part}[{index}] has no proper {key}")
    return value


def _invalid(file: Path, problem: str) -> QuantfleetError:
    todo = "give a COCO annotation file with images, annotations and categories"
    return QuantfleetError(ErrorCode.DATA_NOT_FOUND, f"the annotations {file}: {problem}", todo)
