"""Gets a serialized engine: a kept one where it fits, else a new one, which is kept. Not for running it."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from ..cuda.device import CudaDevice
from . import build, calibration, kept
from .model import TensorRtModel, prepared
from .plan import BuildPlan, parse_version


@dataclass
class Workshop:
    """One model, to be built for one precision on one GPU. `folder` is where engines and timings are kept; None keeps
    none. `last` says where the engine given last is from."""

    model: TensorRtModel
    plan: BuildPlan
    device: CudaDevice
    version_text: str
    folder: Path | None
    last: str = field(default="none yet", init=False)

    def engine(self, shapes: Mapping[str, tuple[int, ...]], anew: str = "") -> bytes:
        """A serialized engine for these input shapes; with `anew`, the reason, never a kept one.

        Raises QuantfleetError: MODEL_UNREADABLE, MODEL_UNSUPPORTED, ENGINE_FAILED, SCALES_INVALID.
        """
        key = self._key(shapes)
        found = kept.Kept(None, anew)
        if self.folder is not None and not anew:
            found = kept.find(self.folder, key)
        if found.engine is not None:
            self.last = "kept from an earlier run"
            return found.engine
        timings = b"" if self.folder is None else kept.find_timings(self.folder, self.device, self.version_text)
        with tempfile.TemporaryDirectory(prefix="quantfleet-tensorrt-") as scratch:
            network = prepared(self.model, self.plan, Path(scratch))
            made = build.build(network, self.plan, shapes, timings, self._calibrator())
        if self.folder is not None:
            kept.keep(self.folder, key, made.engine)
            kept.keep_timings(self.folder, self.device, self.version_text, made.timings)
        self.last = found.note or "built in this run"
        return made.engine

    def _calibrator(self) -> Any:
        if not self.plan.calibrated or self.model.cache is None:
            return None
        return calibration.reading(calibration.cache_for(parse_version(self.version_text), self.model.cache))

    def _key(self, shapes: Mapping[str, tuple[int, ...]]) -> kept.EngineKey:
        options = {
            "flags": self.plan.flags,
            "half": self.plan.half,
            "strongly_typed": self.plan.strongly_typed,
            "calibrated": self.plan.calibrated,
            "shapes": {name: list(shape) for name, shape in shapes.items()},
            "quantfleet": metadata.version("quantfleet"),  # which prepares the file that is parsed
        }
        return kept.EngineKey(
            gpu=self.device.name,
            capability=self.device.capability_text,
            tensorrt=self.version_text,
            model=self.model.digest,
            options=json.dumps(options, sort_keys=True),
        )
