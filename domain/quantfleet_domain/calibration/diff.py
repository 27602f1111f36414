"""What differs between two scale tables, as a value. Not for printing it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from quantfleet_domain.calibration.graph import NumericsClass
from quantfleet_domain.calibration.scales import ActivationRow, ScalesHeader, ScaleTable, WeightRow


@dataclass(frozen=True)
class HeaderChange:
    """A header field that differs, e.g. `calibrator` or `numerics_class.isa`, with both values."""

    field: str
    before: object
    after: object


@dataclass(frozen=True)
class RangeChange:
    """An activation whose row differs. `relative` is the larger move of its two ends ÷ its peak in either table.

    It is in [0, 2], and 0 where only the calibrator, tie, native name or sample count differ.
    """

    tensor: str
    before: ActivationRow
    after: ActivationRow
    relative: float


@dataclass(frozen=True)
class WeightChange:
    """A weight whose row differs. `relative` is the largest change of a channel ÷ its larger absmax, in [0, 1].

    It is None where the axis or the number of channels differs, so that channels have no counterpart.
    """

    tensor: str
    before: WeightRow
    after: WeightRow
    relative: float | None


@dataclass(frozen=True)
class ScalesDiff:
    """From table a (before) to table b (after). Names are of the reference graph, in their table's order."""

    header: tuple[HeaderChange, ...]
    activations_only_in_a: tuple[str, ...]
    activations_only_in_b: tuple[str, ...]
    activations_changed: tuple[RangeChange, ...]
    weights_only_in_a: tuple[str, ...]
    weights_only_in_b: tuple[str, ...]
    weights_changed: tuple[WeightChange, ...]

    @property
    def empty(self) -> bool:
        """Whether the tables say the same (the order of rows aside)."""
        return not any(getattr(self, field.name) for field in fields(self))


def diff(a: ScaleTable, b: ScaleTable) -> ScalesDiff:
    """What changed from `a` to `b`, row by row, matched by reference tensor names."""
    activations_a, activations_b = ({row.tensor: row for row in table.activations} for table in (a, b))
    weights_a, weights_b = ({row.tensor: row for row in table.weights} for table in (a, b))
    return ScalesDiff(
        header=tuple(_header_changes(a.header, b.header)),
        activations_only_in_a=_missing(activations_a, activations_b),
        activations_only_in_b=_missing(activations_b, activations_a),
        activations_changed=tuple(
            RangeChange(name, row, activations_b[name], _relative_range(row, activations_b[name]))
            for name, row in activations_a.items()
            if name in activations_b and row != activations_b[name]
        ),
        weights_only_in_a=_missing(weights_a, weights_b),
        weights_only_in_b=_missing(weights_b, weights_a),
        weights_changed=tuple(
            WeightChange(name, row, weights_b[name], _relative_peaks(row, weights_b[name]))
            for name, row in weights_a.items()
            if name in weights_b and row != weights_b[name]
        ),
    )


def _missing(here: Mapping[str, object], there: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(name for name in here if name not in there)


def _header_changes(a: ScalesHeader, b: ScalesHeader) -> list[HeaderChange]:
    pairs: list[tuple[str, object, object]] = [
        (field.name, getattr(a, field.name), getattr(b, field.name))
        for field in fields(ScalesHeader)
        if field.name != "numerics_class"
    ]
    pairs += [
        (f"numerics_class.{field.name}", getattr(a.numerics_class, field.name), getattr(b.numerics_class, field.name))
        for field in fields(NumericsClass)
    ]
    return [HeaderChange(name, before, after) for name, before, after in pairs if before != after]


def _relative(move: float, magnitude: float) -> float:
    return move / magnitude if move else 0.0


def _relative_range(a: ActivationRow, b: ActivationRow) -> float:
    move = max(abs(a.lo - b.lo), abs(a.hi - b.hi))
    return _relative(move, max(abs(a.lo), abs(a.hi), abs(b.lo), abs(b.hi)))


def _relative_peaks(a: WeightRow, b: WeightRow) -> float | None:
    if a.axis != b.axis or len(a.absmax) != len(b.absmax):
        return None
    return max((_relative(abs(x - y), max(x, y)) for x, y in zip(a.absmax, b.absmax, strict=True)), default=0.0)
