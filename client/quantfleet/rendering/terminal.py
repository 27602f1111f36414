"""The report's tables on a terminal, or as plain aligned text elsewhere. Not for progress."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from quantfleet_domain.reporting.report import Report
from quantfleet_domain.reporting.sections import Section, absent, gates, latency
from quantfleet_domain.reporting.table import tables

_STYLES = {"passed": "green", "missed": "bold red"}
_KEPT_WIDTH = 16
"""A column is not squeezed below this many cells, so that names of engines stay on one line."""


def print_report(report: Report, console: Console) -> None:
    """Print the latency tables, the gates and what is absent; without colour or frames where it is no terminal."""
    for section in (*(latency(table, table.precisions) for table in tables(report)), gates(report), absent(report)):
        if section.rows:
            _print_section(section, console)
    for warning in report.warnings:
        _print(console, Text(f"warning: {printable(warning)}", style="yellow"))
    state = Text(f"{printable(report.job.name)} ({printable(report.job.id)}): {printable(report.job.state)}")
    _print(console, state)
    if report.job.error:
        _print(console, Text(f"{printable(report.job.error.what)} ({printable(report.job.error.todo)})", style="red"))


def printable(text: str) -> str:
    """Text on one line without control characters, so that a name cannot drive the terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _print_section(section: Section, console: Console) -> None:
    shown = _without_shared_hardware(section) if console.is_terminal else section
    rows = [[printable(cell) for cell in row] for row in shown.rows]
    _print(console, Text(printable(shown.title), style="bold"))
    if console.is_terminal:
        console.print(_grid(shown, rows))
    else:
        for line in _aligned([list(section.header), *rows], section.numeric):
            _print(console, Text(line))
    if section.note:
        _print(console, Text(printable(section.note), style="dim"))
    _print(console, Text(""))


def _without_shared_hardware(section: Section) -> Section:
    """Name hardware that all rows share once, in the title: its name is long and terminals are narrow."""
    if "Hardware" not in section.header:
        return section
    column = section.header.index("Hardware")
    if len({row[column] for row in section.rows}) > 1:
        return section
    return replace(
        section,
        title=f"{section.title}, {section.rows[0][column]}",
        header=section.header[:column] + section.header[column + 1 :],
        rows=tuple(row[:column] + row[column + 1 :] for row in section.rows),
        numeric=frozenset(at - (at > column) for at in section.numeric),
    )


def _grid(section: Section, rows: Sequence[Sequence[str]]) -> Grid:
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column, name in enumerate(section.header):
        widest = max(cell_len(row[column]) for row in rows)
        if column in section.numeric:
            width = max(widest, *(cell_len(word) for word in name.split()))
            grid.add_column(Text(name), justify="right", width=width)
        else:
            grid.add_column(Text(name), overflow="fold", min_width=min(widest, _KEPT_WIDTH))
    for row in rows:
        grid.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    return grid


def _aligned(rows: Sequence[Sequence[str]], numeric: frozenset[int]) -> Iterator[str]:
    widths = [max(cell_len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (
            " " * (width - cell_len(cell)) + cell if column in numeric else cell + " " * (width - cell_len(cell))
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(padded).rstrip()


def _print(console: Console, line: Text) -> None:
    """Print a line; it is styled and wrapped on a terminal only, since elsewhere a program may read it."""
    if console.is_terminal:
        console.print(line)
    else:
        console.print(Text(line.plain), soft_wrap=True)
