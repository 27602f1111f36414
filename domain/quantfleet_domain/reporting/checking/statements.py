"""Notes what a published table does not state and a reader of its figures has to guess: unit, protocol, mode."""

import re
from collections.abc import Iterator, Sequence

from quantfleet_domain.reporting.checking.columns import Column, Kind, unit_ms_of
from quantfleet_domain.reporting.checking.figures import Figure
from quantfleet_domain.reporting.checking.findings import Finding, Rule, Severity
from quantfleet_domain.reporting.checking.modes import heading_mode
from quantfleet_domain.reporting.checking.published import PublishedTable

_RUNS = r"\d\s*次|\d\s*(?:\w+[\s-]){0,2}(?:runs|iterations|repeats|repetitions|times)\b"
_STATISTIC = r"平均|均值|中位|\bmeans?\b|\bmedians?\b|\baverage"
_WARMUP = r"预热|warm[\s-]?up"
_PROTOCOL = re.compile(f"{_RUNS}|{_STATISTIC}|{_WARMUP}", re.IGNORECASE)


def check_statements(table: PublishedTable, columns: Sequence[Column]) -> Iterator[Finding]:
    """Notes on a table that holds latencies or throughputs, read together with the text around it."""
    timed = [column for column in columns if column.kind in (Kind.LATENCY, Kind.BARE)]
    if any(column.kind in (Kind.LATENCY, Kind.THROUGHPUT) for column in columns) and not _PROTOCOL.search(
        f"{table.context}\n{' '.join(table.header)}"
    ):
        what = "the text around it says neither how often was timed, nor after what warm-up, nor if it is a mean"
        yield Finding(Severity.NOTE, Rule.PROTOCOL, table.name, "figures", what)
    if unit_ms_of(table.context) is None:
        for column in timed:
            if column.unit_ms is None and not _cells_have_unit(table, column):
                what = "neither its header nor the text around the table has a unit of time"
                yield Finding(Severity.NOTE, Rule.UNIT, table.name, column.header, what)
    titled = heading_mode(table)
    said = {column.mode for column in timed if column.mode}
    if titled and len(said) == 1 and titled not in said:
        what = f"they say {said.pop()} and the heading says {titled}; taken as {titled}"
        yield Finding(Severity.NOTE, Rule.MODE, table.name, "headers of the latencies", what)


def _cells_have_unit(table: PublishedTable, column: Column) -> bool:
    figures = (Figure.parse(row[column.index]) for row in table.rows)
    return any(figure and unit_ms_of(figure.unit) for figure in figures)
