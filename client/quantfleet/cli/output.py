"""Results on standard output: a table or text for people, JSON for programs. Not for progress or errors."""

import datetime
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

from quantfleet.rendering.terminal import printable

_LOCAL_WIDTH = 10_000


def emit(value: object) -> None:
    """Print a value as JSON: messages, and mappings and lists of them, with the names of the wire."""
    sys.stdout.write(json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n")


def table(header: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print rows under a header, or `empty` where there are none; elsewhere than on a terminal it is not wrapped."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    if not cells:
        say(empty)
        return
    console = Console(highlight=False)
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in header:
        grid.add_column(Text(name, style="bold"), overflow="fold")
    for row in cells:
        grid.add_row(*(Text(cell) for cell in row))
    if console.is_terminal:
        console.print(grid)
    else:
        Console(highlight=False, width=_LOCAL_WIDTH).print(grid)


def say(text: str) -> None:
    """Print one line of text."""
    sys.stdout.write(text + "\n")


def flush() -> None:
    """Have what was printed leave this process now, for who waits for it."""
    sys.stdout.flush()


def moment(seconds: float) -> str:
    """A time of the wire (Unix seconds, 0: none) in this machine's zone."""
    if not seconds:
        return "-"
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        # Unlike protobuf's own JSON, 64-bit integers stay numbers, and fields with their zero are there.
        return {
            field.name: _plain(getattr(value, field.name))
            for field in value.DESCRIPTOR.fields
            if not field.has_presence or value.HasField(field.name)
        }
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):  # repeated fields are sequences too
        return [_plain(item) for item in value]
    return value
