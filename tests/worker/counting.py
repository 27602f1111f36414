"""An engine of the tests' own, which only counts: it computes nothing, and stands for no product."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.base import Array, Engine, LoadOptions, NodeCounts, Session


class CountingSession(Session):
    """Counts its runs; the clock of its made-up device tells 10, 100 and 1 ns more each time."""

    def __init__(self) -> None:
        self.runs = 0
        self._bound: Mapping[str, Array] = {}

    @property
    def inputs(self) -> Mapping[str, tuple[tuple[int | None, ...], np.dtype[Any]]]:
        return {"image": ((None, 3, 64, 64), np.dtype(np.float32))}

    def bind(self, feeds: Mapping[str, Array]) -> None:
        self._bound = feeds

    def run_bound(self) -> None:
        self.runs += 1

    def outputs(self) -> dict[str, Array]:
        return {"sums": np.array([[array.sum() for array in self._bound.values()]])}

    def parts_ns(self) -> Mapping[str, int]:
        return {"h2d": 10 * self.runs, "compute": 100 * self.runs, "d2h": self.runs}

    def settings_in_effect(self) -> dict[str, str]:
        return {}

    def node_counts(self) -> NodeCounts:
        return NodeCounts(0, 0, ())


class Counting(Engine):
    """Remembers how it was asked to load. Its calibrator writes down the sum of each batch, and keeps the model."""

    name = "counting"
    runtime = "tensorrt"
    kind = "cuda"
    precisions = ("fp32", "int8")
    distribution = "counting"

    def __init__(self) -> None:
        self.loaded: list[tuple[Path, LoadOptions]] = []
        self.calibrated: list[tuple[Path, LoadOptions]] = []

    def version(self) -> str:
        return "1"

    def load(self, model: Path, options: LoadOptions) -> Session:
        self.loaded.append((model, options))
        return CountingSession()

    def preferred_form(self, isa: tuple[str, ...], precision: str) -> str:  # noqa: ARG002 - it computes nothing
        return "s8s8"

    def calibrate_natively(
        self, model: Path, batches: Iterable[Mapping[str, Array]], options: LoadOptions, out: Path
    ) -> None:
        self.calibrated.append((model, options))
        (out / "ranges").mkdir()
        sums = [f"{feeds['image'].shape} {float(feeds['image'].sum()):.3f}\n" for feeds in batches]
        (out / "ranges" / "sums.txt").write_text("".join(sums))
        (out / "model.onnx").write_bytes(model.read_bytes())


class Failing(Counting):
    """Its calibrator gives up after it wrote a file."""

    def calibrate_natively(
        self, model: Path, batches: Iterable[Mapping[str, Array]], options: LoadOptions, out: Path
    ) -> None:
        del model, options
        (out / "half").write_bytes(b"half")
        next(iter(batches))
        raise QuantfleetError(ErrorCode.ENGINE_FAILED, "the ranges do not settle", "give other samples")
