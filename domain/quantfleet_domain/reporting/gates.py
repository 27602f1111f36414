"""Gates: conditions a job's results must meet, such as `int8.speedup >= 1.5`. Not for what a missed gate then means."""

import difflib
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.offers import ENGINES
from quantfleet_domain.hardware.precisions import PRECISIONS
from quantfleet_domain.jobs.spec import METRICS, MODES, QUANTIZATIONS
from quantfleet_domain.reporting.report import GateResult, Result

LATENCY_FIELDS = ("mean", "median", "min", "max", "p90", "p95", "p99", "cov")
SPEEDUP_FIELDS = ("value", "low", "high")
FIGURES = ("throughput_per_s", "model_bytes", "memory_mb")
DROPS = tuple(f"{metric}_drop" for metric in METRICS)
_QUANTITIES = ("speedup", "latency_ms", *FIGURES, *METRICS, *DROPS)
_BASELINE = "fp32"

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_EXPRESSION = re.compile(r"\s*(?P<path>[^\s<>=!]+)\s*(?P<comparison>[<>=!]+)\s*(?P<limit>\S+)\s*")


@dataclass(frozen=True)
class Gate:
    """A parsed gate: what is compared (`quantity`, and its `part` where it has parts) and with what.

    `precision`, `quantization`, `mode` and `engine` say which results it applies to; None applies to all.
    """

    expression: str
    quantity: str
    part: str | None
    comparison: str
    limit: float
    precision: str | None = None
    quantization: str | None = None
    mode: str | None = None
    engine: str | None = None

    def passes(self, value: float) -> bool:
        """Whether one value meets the gate."""
        return _COMPARISONS[self.comparison](value, self.limit)

    @property
    def wants_more(self) -> bool:
        """Whether larger values are the better ones."""
        return self.comparison.startswith(">")


def parse(expression: str) -> Gate:
    """Parse `[precision.][quantization.][mode.][engine.]quantity[.part] (>=|<=|>|<) number`.

    Quantities: `speedup` (its value, or `.low`, `.high`), `latency_ms.` with mean, median, min, max, p90, p95, p99 or
    cov, `throughput_per_s`, `model_bytes`, `memory_mb`, every metric of METRICS in percent, and its drop, such as
    `top1_drop` or `map_drop`: FP32 minus the variant, in percentage points.
    Raises QuantfleetError(JOB_INVALID) with the column (from 1).
    """
    found = _EXPRESSION.fullmatch(expression)
    if not found:
        raise _wrong(expression, 0, "it is not a comparison", "write it like 'int8.speedup >= 1.5'")
    if found["comparison"] not in _COMPARISONS:
        what = f"{found['comparison']!r} is no comparison of a gate"
        raise _wrong(expression, found.start("comparison"), what, "use >=, <=, > or <")
    try:
        limit = float(found["limit"])
        if limit - limit != 0:
            raise ValueError
    except ValueError:
        what = f"{found['limit']!r} is no number"
        raise _wrong(expression, found.start("limit"), what, "write a plain number, without a unit") from None
    selected, names, column = _selectors(expression, found["path"], found.start("path"))
    quantity = names[0]
    part = _part(expression, quantity, names[1:], column)
    return Gate(expression, quantity, part, found["comparison"], limit, **selected)


def evaluate(expressions: Sequence[str], results: Sequence[Result]) -> tuple[GateResult, ...]:
    """Judge every gate by its worst matching result.

    A matching result that lacks the value is worse than any value: the gate is not passed and its value is None. So is
    a gate that no result matches. FP32, being what they compare with, is not asked for a speed-up or a drop.
    Raises QuantfleetError(JOB_INVALID) for an expression that cannot be parsed.
    """
    return tuple(_judge(parse(expression), results) for expression in expressions)


def _judge(gate: Gate, results: Sequence[Result]) -> GateResult:
    matching = [result for result in results if _matches(gate, result)]
    values = [_value(gate, result, results) for result in matching]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return GateResult(gate.expression, None, False)
    worst = min(known) if gate.wants_more else max(known)
    return GateResult(gate.expression, worst, gate.passes(worst))


def _matches(gate: Gate, result: Result) -> bool:
    unselected = gate.precision is None and gate.quantization is None
    if unselected and result.precision == _BASELINE and gate.quantity in ("speedup", *DROPS):
        return False
    asked = (
        (gate.precision, result.precision),
        (gate.quantization, result.quantization),
        (gate.mode, result.mode),
        (gate.engine, result.engine),
    )
    return all(wanted is None or wanted == found for wanted, found in asked)


def _value(gate: Gate, result: Result, results: Sequence[Result]) -> float | None:
    value: float | None
    if gate.quantity == "speedup":
        value = getattr(result.speedup, gate.part or "value", None)
    elif gate.quantity == "latency_ms":
        value = getattr(result.latency_ms, gate.part or "mean", None)
    elif gate.quantity in FIGURES:
        value = getattr(result, gate.quantity)
    elif gate.quantity in METRICS:
        value = _accuracy(result, gate.quantity, result.precision, results)
    else:
        value = accuracy_drop(result, gate.quantity.removesuffix("_drop"), results)
    return value


def accuracy_drop(result: Result, metric: str, results: Sequence[Result]) -> float | None:
    """FP32 minus this result's precision, in percentage points, of the same model on the same engine and device."""
    before, after = (_accuracy(result, metric, precision, results) for precision in (_BASELINE, result.precision))
    # Shares of a count are not exact in binary: without rounding, 97 − 94 of 150 would be more than 2 points.
    return None if before is None or after is None else round(before - after, 9)


def _accuracy(result: Result, metric: str, precision: str, results: Sequence[Result]) -> float | None:
    """The metric as evaluated for the result's model, engine and device: it does not depend on mode, threads, batch."""

    def identity(row: Result) -> tuple[str, ...]:
        return (row.model, row.node, row.device, row.engine, *((row.quantization,) if precision != _BASELINE else ()))

    for row in (result, *results):
        figure = row.accuracy_of(metric)
        if figure and row.precision == precision and identity(row) == identity(result):
            return figure.value
    return None


def _selectors(expression: str, path: str, column: int) -> tuple[dict[str, str], list[str], int]:
    """Split a path into its selectors, and the quantity with what follows; `column` (from 0) is the quantity's."""
    names = path.split(".")
    selected: dict[str, str] = {}
    kinds = {
        "precision": PRECISIONS,
        "quantization": QUANTIZATIONS,
        "mode": MODES,
        "engine": tuple(ENGINES),
    }
    while names and names[0] not in _QUANTITIES:
        name = names.pop(0)
        kind = next((kind for kind, known in kinds.items() if name in known), None)
        if kind is None or kind in selected:
            known = [*_QUANTITIES, *(name for known in kinds.values() for name in known)]
            what = f"there is no {name!r}" if kind is None else f"{name!r} is a second {kind}"
            raise _wrong(expression, column, what, _nearest(name, known))
        selected[kind] = name
        column += len(name) + 1
    if not names:
        raise _wrong(expression, column - 1, "it does not say what to compare", f"end with one of {_list(_QUANTITIES)}")
    return selected, names, column


def _part(expression: str, quantity: str, names: list[str], column: int) -> str | None:
    parts = {"speedup": SPEEDUP_FIELDS, "latency_ms": LATENCY_FIELDS}.get(quantity, ())
    column += len(quantity) + 1
    if not names:
        if quantity == "latency_ms":
            raise _wrong(expression, column - 1, "which latency?", f"add one of {_list(LATENCY_FIELDS)}")
        return None
    if names[0] not in parts:
        todo = _nearest(names[0], parts) if parts else f"write {quantity} alone"
        raise _wrong(expression, column, f"{quantity} has no {names[0]!r}", todo)
    if len(names) > 1:
        column += len(names[0]) + 1
        raise _wrong(expression, column, f"{names[0]} has no {names[1]!r}", f"write {quantity}.{names[0]} alone")
    return names[0]


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"use one of {_list(known)}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def _wrong(expression: str, column: int, what: str, todo: str) -> QuantfleetError:
    return QuantfleetError(ErrorCode.JOB_INVALID, f"gate {expression!r}, column {column + 1}: {what}", todo)
