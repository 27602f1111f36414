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


Range = tuple[float, float]


def symmetric(thresholds: Mapping[str, float]) -> dict[str, Range]:
    """The range [−t, t] of every threshold."""
    return {name: (-threshold, threshold) for name, threshold in thresholds.items()}


def completed(ranges: Mapping[str, Range], moves: Iterable[tuple[str, str]]) -> dict[str, Range]:
    """The ranges, and those of tensors that lack one but have the values of a tensor with one.

    `moves` are pairs of tensors with the same values. The nearest neighbour counts; of several the widest range.
    """
    found, pairs = dict(ranges), list(moves)
    while True:
        gained: dict[str, Range] = {}
        for one, other in pairs:
            for name, source in ((one, other), (other, one)):
                if name not in found and source in found:
                    gained[name] = max(gained.get(name, (0.0, 0.0)), found[source], key=lambda item: item[1] - item[0])
        if not gained:
            return found
        found |= gained


def imported_table(
    ranges: Mapping[str, Range],
    graph: CalibrationGraph,
    nonnegative: Collection[str],
    *,
    model: str,
    origin: Origin,
) -> ScaleTable:
    """The scale table of `graph` with these ranges, by native or, failing that, by reference name.

    `nonnegative` are the tensors of the graph that cannot be below 0, whose range begins there. Weights are those of
    the graph, which is the FP32 model's; `model` is its SHA-256. Ties are as in `ScaleTable.build`; a tensor without a
    range that is tied to some with one has theirs.

    Raises QuantfleetError(SCALES_INVALID) where a range has an end that is no number, or tensors are left without one.
    """
    rows = {}
    for name in graph.activations:
        native = graph.native_names.get(name)
        found = ranges.get(native, ranges.get(name)) if native is not None else ranges.get(name)
        if found is not None:
            lo, hi = _checked(name, found)
            rows[name] = ActivationRow(name, native, IMPORTED, 0.0 if name in nonnegative else lo, hi, None, 0)
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


def _checked(name: str, found: Range) -> Range:
    """The range in float32 values; one that rounds beyond the largest float32, or does not hold 0, is none."""
    with np.errstate(over="ignore"):
        lo, hi = (float(np.float32(end)) for end in found)
    if not (math.isfinite(lo) and math.isfinite(hi) and lo <= 0 <= hi):
        what = f"tensor {name!r} has range [{found[0]!r}, {found[1]!r}], which is none"
        raise QuantfleetError(ErrorCode.SCALES_INVALID, what, "calibrate the source again")
    return lo + 0.0, hi


def _require_all(graph: CalibrationGraph, rows: Mapping[str, ActivationRow]) -> None:
    missing = [graph.native_names.get(name, name) for name in graph.activations if name not in rows]
    if missing:
        listed = ", ".join(map(repr, missing[:_FEW])) + (", …" if len(missing) > _FEW else "")
        raise QuantfleetError(
            ErrorCode.SCALES_INVALID,
            f"the source has no range for {len(missing)} of {len(graph.activations)} tensors of the model: {listed}",
            "give the FP32 model that the source was made from, its tensors' names unchanged, or calibrate it here",
        )
