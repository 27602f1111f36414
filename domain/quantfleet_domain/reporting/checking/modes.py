"""Finds end-to-end latencies that are not above the runtime latency that they contain, in published tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from quantfleet_domain.reporting.checking.columns import (
    END2END,
    RUNTIME,
    Column,
    Kind,
    mode_of,
    unit_ms_of,
    without_modes,
)
from quantfleet_domain.reporting.checking.findings import Finding, Judged, Rule, Severity
from quantfleet_domain.reporting.checking.groups import Cell, Group, key_of, name_of
from quantfleet_domain.reporting.checking.published import PublishedTable

_EXTREMES = ("min", "max", "p90", "p95", "p99", "最大", "最小")


@dataclass(frozen=True)
class Timed:
    """A latency of a mode: its `subject` (headings without the mode, key, precision, measure), cell and value in ms."""

    mode: str
    subject: tuple[object, ...]
    table: PublishedTable
    row: str
    cell: Cell
    milliseconds: Fraction


def timed(table: PublishedTable, columns: Sequence[Column], groups: Sequence[Group]) -> Iterator[Timed]:
    """Every latency of a table whose mode is stated: by a cell of its row, by the headings or by the header.

    Headings win over headers, unless headers tell both modes apart. Extremes and percentiles are left out: those of
    two measurements may lie either way.
    """
    own = next((column.index for column in columns if column.kind is Kind.MODE), None)
    titled = heading_mode(table)
    headed = {column.mode for group in groups for column in group.columns if column.mode}
    family = tuple(without_modes(heading) for heading in table.headings)
    for group in groups:
        if group.kind is not Kind.LATENCY or any(word in group.columns[0].measure for word in _EXTREMES):
            continue
        for at, cells in group.own.items():
            row = table.rows[at]
            for cell in cells.values():
                by_column = cell.column.mode if len(headed) > 1 else titled or cell.column.mode
                mode = by_column if own is None else mode_of(row[own])
                if mode is None:
                    continue
                unit = unit_ms_of(cell.figure.unit) or cell.column.unit_ms or Fraction(1)
                subject = (family, key_of(row, columns), cell.precision, _statistic(cell.column))
                yield Timed(mode, subject, table, name_of(row, columns), cell, cell.figure.value * unit)


def heading_mode(table: PublishedTable) -> str | None:
    """The mode of the nearest heading that names just one."""
    return next((mode for heading in reversed(table.headings) if (mode := mode_of(heading))), None)


def check_modes(figures: Sequence[Timed]) -> Judged:
    """A fault for every end-to-end latency at or below its runtime latency: decoding and processing take time too."""
    runtime: dict[tuple[object, ...], list[Timed]] = {}
    for figure in figures:
        if figure.mode == RUNTIME:
            runtime.setdefault(figure.subject, []).append(figure)
    # Where a subject was measured twice, nothing says which of the two belongs to which: the lower one may.
    pairs = [
        (figure, min(runtime[figure.subject], key=lambda other: other.milliseconds))
        for figure in figures
        if figure.mode == END2END and figure.subject in runtime
    ]
    return Judged(tuple(_fault(*pair) for pair in pairs if pair[0].milliseconds <= pair[1].milliseconds), len(pairs))


def _fault(whole: Timed, contained: Timed) -> Finding:
    relation = "equals" if whole.milliseconds == contained.milliseconds else "is below"
    what = (
        f"{whole.cell.figure.text} {relation} the runtime latency that it contains,"
        f" {contained.cell.figure.text} (table {contained.table.ordinal}, {contained.cell.column.header})"
    )
    where = f"{whole.row}: {whole.cell.column.header}"
    return Finding(Severity.FAULT, Rule.END2END, whole.table.name, where, what)


def _statistic(column: Column) -> str:
    return "median" if "median" in column.measure or "中位" in column.measure else "mean"
