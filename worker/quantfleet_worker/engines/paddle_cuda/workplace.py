"""A folder of a model's own, in which Paddle finds and leaves its files for TensorRT. Not for what is in them.

Paddle reads and writes tables, engines and reports in `_opt_cache` beside the program, and asks nobody.
"""

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from .model import PaddleModel
from .tables import CACHE_FOLDER, is_table

_OPTIMIZED = "_optimized.pdmodel"
_ENGINE_INFO = "engine_info_"
_ENGINE = "trt_serialized_"
_FOLDER = "paddle-tensorrt"
_DIGITS = 32


class Workplace:
    """With `kept`, a folder in there that is for exactly these `facts`, so that engines are found again; else one that
    ends with this object."""

    def __init__(self, model: PaddleModel, facts: Mapping[str, str], kept: Path | None) -> None:
        if kept is None:
            self._folder = Path(tempfile.mkdtemp(prefix="quantfleet-paddle-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        else:
            key = sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()[:_DIGITS]
            self._folder = kept / _FOLDER / key
        self._stem = model.files.stem
        (self._folder / CACHE_FOLDER).mkdir(parents=True, exist_ok=True)
        for path in (model.files.program, model.files.parameters):
            _place(path, self._folder / path.name)
        for path in model.tables:
            if is_table(path.name):
                _place(path, self._folder / CACHE_FOLDER / path.name)

    @property
    def program(self) -> Path:
        """The model's program."""
        return self._folder / f"{self._stem}.pdmodel"

    @property
    def parameters(self) -> Path:
        """Its parameters."""
        return self._folder / f"{self._stem}.pdiparams"

    @property
    def shapes(self) -> Path:
        """What Paddle collected of the shapes of all tensors; written when it has."""
        return self._folder / "shapes.pbtxt"

    def optimized(self) -> bytes:
        """The program that Paddle's passes left."""
        return (self._folder / _OPTIMIZED).read_bytes()

    def engine_info(self, key: str) -> str:
        """What TensorRT's inspector said of an engine; empty where Paddle wrote nothing."""
        path = self._folder / CACHE_FOLDER / f"{_ENGINE_INFO}{key}.json"
        return path.read_text() if path.exists() else ""

    def engines(self) -> dict[str, int]:
        """The serialized engines that lie here, by name with the time of their writing in nanoseconds."""
        return {path.name: path.stat().st_mtime_ns for path in (self._folder / CACHE_FOLDER).glob(f"{_ENGINE}*")}

    def tables(self) -> list[Path]:
        """The calibration tables that lie here."""
        return sorted(path for path in (self._folder / CACHE_FOLDER).iterdir() if is_table(path.name))

    def set_tables(self, files: Mapping[str, bytes]) -> None:
        """Lay these calibration tables down where Paddle looks for them, and no others."""
        for path in self.tables():
            path.unlink()
        for name, content in files.items():
            (self._folder / CACHE_FOLDER / name).write_bytes(content)


def _place(source: Path, target: Path) -> None:
    """Put a file here whole, in place of one that an ended process may have left in part."""
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.part")
    shutil.copyfile(source, unfinished)
    unfinished.replace(target)
