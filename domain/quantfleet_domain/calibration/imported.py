"""A scale table whose ranges another tool found. Not for reading that tool's files, nor for what a model computes."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from quantfleet_domain.calibration.graph import CalibrationGraph, NumericsClass
from quantfleet_domain.calibration.scales import ActivationRow, ScalesHeader, ScaleTable, tied, weight_rows
from quantfleet_domain.errors import ErrorCode, QuantfleetError

IMPORTED = "imported"
"""The calibrator of imported rows, and what a header says of samples and preprocessing that it cannot know."""
_FEW = 5


@dataclass(frozen=True)
class Origin:
    """Where thresholds come from: the tool and its version as the file has it, and the SHA-256 of what was read."""

    engine: str
    engine_version: str
    sha256: str


def completed(thresholds: Mapping[str, float], moves: Iterable[tuple[str, str]]) -> dict[str, float]:
    """The thresholds, and those of tensors that lack one but have the values of a tensor with one.

    `moves` are pairs of tensors with the same values. The nearest neighbour counts; of several the largest threshold.
    """
    found, pairs = dict(thresholds), list(moves)
    while True:
        gained: dict[str, float] = {}
        for one, other in pairs:
            for name, source in ((one, other), (other, one)):
                if name not in found and source in found:
                    gained[name] = max(gained.get(name, 0.0), found[source])
        if not gained:
            return found
        found |= gained


def imported_table(
    thresholds: Mapping[str, float],
    graph: CalibrationGraph,
    nonnegative: Collection[str],
    *,
    model: str,
    origin: Origin,
) -> ScaleTable:
    """The scale table of `graph` with these thresholds, by native or, failing that, by reference name.

    `nonnegative` are the tensors of the graph that cannot be below 0: their range is [0, t], that of others [−t, t].
    Weights are those of the graph, which is the FP32 model's; `model` is its SHA-256. Ties are as in
    `ScaleTable.build`; a tensor without a threshold that is tied to some with one has their range.

    Raises QuantfleetError(SCALES_INVALID) where a threshold is no magnitude, or tensors are left without one.
    """
    rows = {}
    for name in graph.activations:
        native = graph.native_names.get(name)
        threshold = thresholds.get(native, thresholds.get(name)) if native is not None else thresholds.get(name)
        if threshold is not None:
            t = _magnitude(name, threshold)
            rows[name] = ActivationRow(name, native, IMPORTED, 0.0 if name in nonnegative else -t, t, None, 0)
    for group in graph.ties:
        known = [rows[name] for name in group if name in rows]
        for name in group if known else ():
            rows.setdefault(name, replace(known[0], tensor=name, native_name=graph.native_names.get(name)))
    _require_all(graph, rows)
    return ScaleTable(
        _header(graph, model, origin), tied([rows[n] for n in graph.activations], graph.ties), weight_rows(graph)
    )


def _header(graph: CalibrationGraph, model: str, origin: Origin) -> ScalesHeader:
    """What is not known of the other tool's run is said to be so: `unknown`, or 0 where a number stands."""
    numerics = NumericsClass(
        engine=origin.engine,
        engine_version=origin.engine_version,
        isa="unknown",
        model=model,
        recipe=graph.recipe,
        preprocessing=IMPORTED,
        statistic_version=0,
        threads=0,
        batch=0,
    )
    return ScalesHeader(model, f"{IMPORTED}:{origin.sha256}", IMPORTED, IMPORTED, None, numerics)


def _magnitude(name: str, threshold: float) -> float:
    """The threshold as a float32 value; one that rounds beyond the largest float32 is no threshold."""
    with np.errstate(over="ignore"):
        rounded = float(np.float32(threshold))
    if not math.isfinite(rounded) or rounded < 0:
        what = f"tensor {name!r} has threshold {threshold!r}, which is no magnitude"
        raise QuantfleetError(ErrorCode.SCALES_INVALID, what, "calibrate the source again")
    return rounded


def _require_all(graph: CalibrationGraph, rows: Mapping[str, ActivationRow]) -> None:
    missing = [graph.native_names.get(name, name) for name in graph.activations if name not in rows]
    if missing:
        listed = ", ".join(map(repr, missing[:_FEW])) + (", …" if len(missing) > _FEW else "")
        raise QuantfleetError(
            ErrorCode.SCALES_INVALID,
            f"the source has no range for {len(missing)} of {len(graph.activations)} tensors of the model: {listed}",
            "give the FP32 model that the source was made from, its tensors' names unchanged, or calibrate it here",
        )
