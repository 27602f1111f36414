"""Counts with numpy, outside the engine: works wherever the engine does, and takes several times as long."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.calibration.graph import CalibrationGraph, NumericsClass
from quantfleet_domain.calibration.partial import Partial, PartialAccumulator
from quantfleet_worker.collecting.collector import Collector
from quantfleet_worker.models.reference_run import ReferenceRun


class NumpyCollector(Collector):
    """The graph with its tensors as outputs, and numpy. `reason` says why not the tap; the rest as `choice.collector`.

    Raises QuantfleetError(ENGINE_FAILED).
    """

    def __init__(self, reference: Path, graph: CalibrationGraph, numerics: NumericsClass, reason: str) -> None:
        self.name = f"numpy ({reason})"
        self._run = ReferenceRun(reference, graph)
        self._counted = PartialAccumulator(numerics, graph.activations)

    def observe(self, sample_index: int, sample_name: str, feeds: Mapping[str, NDArray[np.float32]]) -> None:
        """See Collector."""
        self._counted.observe(sample_index, sample_name, dict(self._run.unordered(feeds)))

    def partial(self) -> Partial:
        """See Collector."""
        return self._counted.partial()
