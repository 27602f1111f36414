"""quantfleet's own calibration as a worker and a coordinator run it, without the fleet. Not a copy of their code."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.cases import Array
from bench.isolation import isolated

from quantfleet_domain.calibration.calibrators import calibrator_named
from quantfleet_domain.calibration.graph import CalibrationGraph, NumericsClass
from quantfleet_domain.calibration.partial import Partial, merge_partials
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.calibration.statistic import EXTREMES_VERSION, STATISTIC_VERSION
from quantfleet_domain.hardware.offers import REFERENCE_ENGINE
from quantfleet_worker.collecting.choice import collector
from quantfleet_worker.collecting.collector import Collector
from quantfleet_worker.models.reference_session import engine_version


class Calibration:
    """What the tasks `calibrate` and `merge` do for one shard; making it is the set-up.

    The task `inspect`, done once a job, has a process of its own, as it has on a worker. `collector_name` says what
    counted: the compiled tap or numpy. `extremes_only` is the job's key.
    """

    def __init__(
        self, model: Path, input_name: str, shape: tuple[int, ...], folder: Path, *, extremes_only: bool = False
    ) -> None:
        path = folder / "reference.onnx"
        self._graph = CalibrationGraph.from_json(isolated(_inspect, model, {input_name: shape}, path).value)
        self._input_name = input_name
        self._collector = _collector(path, self._graph, EXTREMES_VERSION if extremes_only else STATISTIC_VERSION)
        self.collector_name = self._collector.name

    def observe(self, arrays: Iterable[Array], first: int = 0) -> bytes:
        """Count the arrays as samples `first`, `first` + 1, … of the manifest; the shard as a worker sends it."""
        for index, array in enumerate(arrays, first):
            self._collector.observe(index, f"{index}.npy", {self._input_name: array})
        return self._collector.partial().encode()

    def table(self, shards: Sequence[bytes], calibrator: str) -> ScaleTable:
        """The scale table of the encoded partial statistics of some shards."""
        merged = merge_partials([Partial.decode(shard) for shard in shards])
        chosen = calibrator_named(calibrator)
        return ScaleTable.build(merged, self._graph, chosen, manifest="0" * 64, preprocessing="tensors")


def calibrate(
    model: Path,
    input_name: str,
    shape: tuple[int, ...],
    samples: Sequence[Array],
    folder: Path,
    calibrator: str,
    *,
    extremes_only: bool = False,
) -> str:
    """All of a calibration in one shard; returns what counted."""
    calibration = Calibration(model, input_name, shape, folder, extremes_only=extremes_only)
    calibration.table([calibration.observe(samples)], calibrator)
    return calibration.collector_name


def _inspect(model: Path, shapes: Mapping[str, tuple[int, ...]], reference: Path) -> bytes:
    from quantfleet_worker.models import onnx_model

    content, graph = onnx_model.inspect(model, shapes)
    reference.write_bytes(content)
    return graph.to_json()


def _collector(reference: Path, graph: CalibrationGraph, statistic_version: int) -> Collector:
    numerics = NumericsClass(
        engine=REFERENCE_ENGINE,
        engine_version=engine_version(),
        isa="this machine's",
        model="0" * 64,
        recipe=graph.recipe,
        preprocessing="tensors",
        statistic_version=statistic_version,
    )
    return collector(reference, graph, numerics)
