"""What a job file says of a scale table that it brings. Not for the table's own format."""

from collections.abc import Mapping
from pathlib import Path

from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.yaml_tree import Value

SETTLED = ("calibrator", "percentile", "ties", "reuse", "extremes_only")
"""Keys of the calibration that say how a table is made: one that is brought is made already."""


def merge(job: Mapping[str, Value], own: Mapping[str, Value]) -> dict[str, Value]:
    """The keys of a job's calibration and a model's own, which come first.

    How the tables of the job's other models are made is no matter of one that is brought.
    """
    kept = {key: value for key, value in job.items() if "scales" not in own or key not in SETTLED}
    return {**kept, **own}


def find(keys: Mapping[str, Value], base: Path) -> Path | None:
    """The file that a calibration's `scales` names, None where it names none.

    Raises QuantfleetError at the place: SCALES_INVALID where there is no such file, JOB_INVALID for a key beside it
    that cannot mean anything.
    """
    if "scales" not in keys:
        return None
    path = keys["scales"].path(base)
    if not path.is_file():
        todo = "give a scales.json that quantfleet wrote"
        raise keys["scales"].error(f"there is no scale table {path}", todo, ErrorCode.SCALES_INVALID)
    for key in SETTLED:
        if key in keys:
            what = f"{key} says how a scale table is made, and `scales` brings one that is made"
            raise keys[key].error(what, "keep one of them")
    if "data" not in keys:
        measured = "exclude_below_db" if "exclude_below_db" in keys else "bias_correction"
        if measured in keys and (measured != "bias_correction" or keys[measured].boolean()):
            raise keys[measured].error(f"{measured} needs samples, and there are none", "add `data:`, or leave it out")
    return path


def read(path: Path) -> ScaleTable:
    """The scale table in a file. Raises QuantfleetError(SCALES_INVALID), naming the file."""
    try:
        return ScaleTable.from_json(path.read_bytes())
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror}"
        raise QuantfleetError(ErrorCode.SCALES_INVALID, what, "give a scales.json that quantfleet wrote") from error
    except QuantfleetError as error:
        raise QuantfleetError(error.code, f"{path}: {error.what}", error.todo) from error
