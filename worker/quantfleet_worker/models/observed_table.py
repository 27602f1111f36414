"""The scale table of a few samples on the spot: each activation's largest magnitude. Not for a job's calibration."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from quantfleet_domain.calibration.calibrators import calibrator_named
from quantfleet_domain.calibration.graph import CalibrationGraph, NumericsClass
from quantfleet_domain.calibration.partial import PartialAccumulator
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.calibration.statistic import EXTREMES_VERSION
from quantfleet_domain.hardware.offers import REFERENCE_ENGINE
from quantfleet_worker.models.reference_run import ReferenceRun


def observed_table(
    reference: bytes, graph: CalibrationGraph, samples: Sequence[Mapping[str, NDArray[Any]]], model: str
) -> ScaleTable:
    """The table of a reference graph over `samples`, model inputs of batch 1; `model` is the model's digest.

    The table does not leave this process: what tells two fleets' tables apart is empty. Raises
    QuantfleetError(ENGINE_FAILED).
    """
    numerics = NumericsClass(REFERENCE_ENGINE, "", "", model, graph.recipe, "", EXTREMES_VERSION)
    with tempfile.TemporaryDirectory(prefix="quantfleet-table-") as folder:
        path = Path(folder) / "reference.onnx"
        path.write_bytes(reference)
        run, statistics = ReferenceRun(path, graph), PartialAccumulator(numerics, graph.activations)
        for index, feeds in enumerate(samples):
            statistics.observe(index, str(index), dict(run.activations(feeds)))
    return ScaleTable.build(statistics.partial(), graph, calibrator_named("absmax"), manifest="", preprocessing="")
