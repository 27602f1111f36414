"""Gathers the figures of a published table that may be compared: one measure, one subject, several precisions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quantfleet_domain.reporting.checking.columns import BASELINE, Column, Kind, precision_of
from quantfleet_domain.reporting.checking.figures import Figure
from quantfleet_domain.reporting.checking.published import PublishedTable

_MEASURED = (Kind.LATENCY, Kind.THROUGHPUT, Kind.ACCURACY, Kind.BARE)


@dataclass(frozen=True)
class Cell:
    """A measured figure: its row (from 0), column and precision ("" where none is named)."""

    row: int
    column: Column
    precision: str
    figure: Figure


@dataclass(frozen=True)
class Group:
    """The cells of one measure: `own` by row and precision, `baselines` the FP32 cell that a row is compared with."""

    kind: Kind
    columns: tuple[Column, ...]
    own: Mapping[int, Mapping[str, Cell]]
    baselines: Mapping[int, Cell]

    def cell(self, row: int, precision: str) -> Cell | None:
        """The figure of a precision that belongs to a row, in it or, for FP32, in another."""
        own = self.own.get(row, {}).get(precision)
        return own or (self.baselines.get(row) if precision == BASELINE else None)

    def variants(self, row: int) -> tuple[Cell, ...]:
        """What a row compares with FP32: its INT8 figures or, where it has none, all others."""
        others = [cell for precision, cell in self.own.get(row, {}).items() if precision != BASELINE]
        return tuple(cell for cell in others if cell.precision.startswith("INT8")) or tuple(others)


@dataclass
class _Open:
    columns: list[Column]
    own: dict[int, dict[str, Cell]] = field(default_factory=dict)


def key_of(row: Sequence[str], columns: Sequence[Column]) -> tuple[str, ...]:
    """What a row is about: model, engine, hardware, threads, …, in one case."""
    return tuple(row[column.index].casefold() for column in columns if column.kind is Kind.KEY)


def name_of(row: Sequence[str], columns: Sequence[Column]) -> str:
    """What to call a row: its key, precision and mode as they stand."""
    kinds = (Kind.KEY, Kind.PRECISION, Kind.MODE)
    return ", ".join(row[column.index] for column in columns if column.kind in kinds and row[column.index])


def groups_of(table: PublishedTable, columns: Sequence[Column]) -> tuple[Group, ...]:
    """All groups, in the order of their columns.

    A table has a column for each precision, or a column that names the precision of the row. In the second form the
    FP32 row of the same key and mode is the baseline, if there is just one. A measure and precision that come again
    in a further column begin a group of their own.
    """
    stated = next((column for column in columns if column.kind is Kind.PRECISION), None)
    opened: list[_Open] = []
    for column in columns:
        if column.kind not in _MEASURED:
            continue
        group = next((g for g in reversed(opened) if _what(g.columns[0]) == _what(column)), None)
        if group is None or any(other.precision == column.precision for other in group.columns):
            group = _Open([])
            opened.append(group)
        group.columns.append(column)
        for at, row in enumerate(table.rows):
            precision = column.precision or (precision_of(row[stated.index]) if stated else None) or ""
            figure = Figure.parse(row[column.index])
            if figure:
                group.own.setdefault(at, {})[precision] = Cell(at, column, precision, figure)
    return tuple(
        Group(group.columns[0].kind, tuple(group.columns), group.own, _baselines(table, columns, group.own))
        for group in opened
    )


def _what(column: Column) -> tuple[Kind, str, str | None]:
    return column.kind, column.measure, column.mode


def _baselines(
    table: PublishedTable, columns: Sequence[Column], own: Mapping[int, Mapping[str, Cell]]
) -> dict[int, Cell]:
    modes = [column.index for column in columns if column.kind is Kind.MODE]

    def subject(row: int) -> tuple[str, ...]:
        return (*key_of(table.rows[row], columns), *(table.rows[row][index] for index in modes))

    found: dict[tuple[str, ...], list[Cell]] = {}
    for row, cells in own.items():
        if BASELINE in cells:
            found.setdefault(subject(row), []).append(cells[BASELINE])
    of_row = {row: cells[BASELINE] for row, cells in own.items() if BASELINE in cells}
    alone = {key: cells[0] for key, cells in found.items() if len(cells) == 1}
    return {row: alone[subject(row)] for row in own if subject(row) in alone} | of_row
