"""The calibration tables that Paddle-TensorRT reads, written from one table for the whole model. Pure.

Paddle wants a file for each TensorRT engine, `_opt_cache/trt_calib_KEY` beside the program, whose text goes to
TensorRT's calibrator as it is (analysis/helper.h `GetTrtCalibTableData`; trt_int8_calibrator.h, an
`IInt8EntropyCalibrator2`). Its key and the tensors' names are known only when Paddle's passes have run, see `program`;
so what travels with a model is one table with the model's own names, in the same text.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from quantfleet_domain.calibration.tensorrt_cache import KIND, CalibrationCache

from .program import OptimizedProgram, original

TABLE = "calibration.cache"
"""The file with the table of the whole model, beside its program."""
CACHE_FOLDER = "_opt_cache"
_PREFIX = "trt_calib_"


@dataclass(frozen=True)
class Tables:
    """`files` are the tables' texts by file name; `unscaled` are the tensors in TensorRT that the model's table lacks:
    what reads or writes one of them TensorRT leaves in float."""

    files: Mapping[str, bytes]
    unscaled: tuple[str, ...]


def tables_for(program: OptimizedProgram, table: CalibrationCache, version: int) -> Tables:
    """A table for every subgraph. `version` is TensorRT's as it says it itself (8503 is 8.5.3)."""
    files: dict[str, bytes] = {}
    unscaled: list[str] = []
    for subgraph in program.subgraphs:
        scales = {}
        for tensor in subgraph.tensors():
            scale = table.scales.get(original(tensor))
            if scale is None:
                unscaled.append(tensor)
            else:
                scales[tensor] = scale
        files[_PREFIX + subgraph.table_key] = CalibrationCache(str(version), KIND, scales).to_text()
    return Tables(files, tuple(unscaled))


def is_table(name: str) -> bool:
    """Whether a file is called as Paddle calls the table of an engine."""
    return name.startswith(_PREFIX)


def without_table(program: OptimizedProgram) -> int:
    """For how many of the engines Paddle found no table: it would calibrate them instead of running them."""
    return sum(not subgraph.has_table for subgraph in program.subgraphs)
