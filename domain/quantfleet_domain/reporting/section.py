"""A titled table of plain text: what every form of the report is cut into. Not for what stands in it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A titled table. `numeric` are the columns (from 0) that hold figures; `note` is a line below, or empty."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    note: str = ""
