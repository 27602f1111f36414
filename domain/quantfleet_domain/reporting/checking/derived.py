"""Finds the speed-ups and differences of a published table that do not follow from its other cells."""

import re
from collections.abc import Iterator, Mapping, Sequence

from quantfleet_domain.reporting.checking.columns import Column, Kind, says_percent
from quantfleet_domain.reporting.checking.definitions import REDUCTION, Definition, differences, speedups
from quantfleet_domain.reporting.checking.figures import Figure
from quantfleet_domain.reporting.checking.findings import Finding, Judged, Rule, Severity
from quantfleet_domain.reporting.checking.groups import Group, name_of
from quantfleet_domain.reporting.checking.published import PublishedTable

_DEFINED = re.compile(r"(?:加速比|speed[\s-]?up).{0,80}?(?:除以|÷|/|\bover\b|\bdivided\b|\bratio\b)", re.IGNORECASE)


def check_derived(table: PublishedTable, columns: Sequence[Column], groups: Sequence[Group]) -> Judged:
    """Judge every derived column of a table.

    A column means what explains most of its cells; a cell that this does not explain is a fault. Explained is what can
    be reached from values that round, or are cut off, to the printed digits, so rounding alone is never a fault.
    """
    findings: list[Finding] = []
    cells = 0
    for column in columns:
        if column.kind not in (Kind.SPEEDUP, Kind.DIFFERENCE):
            continue
        ways = speedups if column.kind is Kind.SPEEDUP else differences
        figures = {at: f for at, row in enumerate(table.rows) if (f := Figure.parse(row[column.index]))}
        for percent in (False, True):
            alike = {at: f for at, f in figures.items() if (f.unit == "%" or says_percent(column.header)) is percent}
            definitions = tuple(ways(column, groups, percent))
            meant = _meant(definitions, alike)
            if meant is None:
                continue
            findings += _note(table, column, meant)
            for at, figure in alike.items():
                derived = meant.derive(at)
                cells += derived is not None
                if derived and not derived.interval.meets(figure.interval):
                    where = f"{name_of(table.rows[at], columns)}: {column.header}"
                    rule = Rule.SPEEDUP if column.kind is Kind.SPEEDUP else Rule.DIFFERENCE
                    what = f"{figure.text} should be {figure.alike(derived.value)} = {derived.working} ({meant.words})"
                    what += _another_way(definitions, at, figure)
                    findings.append(Finding(Severity.FAULT, rule, table.name, where, what))
    return Judged(tuple(findings), cells)


def _meant(definitions: Sequence[Definition], figures: Mapping[int, Figure]) -> Definition | None:
    """The definition that explains most figures, the likeliest of several; None where no figure can be derived."""
    explained = {
        definition: sum(_explains(definition, at, figure) for at, figure in figures.items())
        for definition in definitions
        if any(definition.derive(at) for at in figures)
    }
    # max() takes the first of equals, and they come likeliest first.
    return max(explained, key=lambda definition: explained[definition]) if explained else None


def _explains(definition: Definition, at: int, figure: Figure) -> bool:
    derived = definition.derive(at)
    return derived is not None and derived.interval.meets(figure.interval)


def _note(table: PublishedTable, column: Column, meant: Definition) -> Iterator[Finding]:
    if column.kind is not Kind.SPEEDUP:
        return
    if meant.form is REDUCTION:
        what = f"what is called speed-up is the reduction of latency in percent, {meant.words}"
        yield Finding(Severity.NOTE, Rule.DEFINITION, table.name, column.header, what)
    elif not column.ratio and not _DEFINED.search(f"{column.header}\n{table.context}"):
        what = f"nothing says what it is a ratio of; taken as {meant.words}"
        yield Finding(Severity.NOTE, Rule.DEFINITION, table.name, column.header, what)


def _another_way(definitions: Sequence[Definition], at: int, figure: Figure) -> str:
    other = next((definition for definition in definitions if _explains(definition, at, figure)), None)
    return f"; it is {other.words}, unlike the rest of the column" if other else ""
