"""What stands in the pages of the documentation: their sections and the rows of their tables."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def text_of(page: str) -> str:
    return (DOCS / page).read_text()


def section_of(page: str, heading: str) -> str:
    """What stands between a heading and the next one of its level or above."""
    found = re.search(rf"(?ms)^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,2}} |\Z)", text_of(page))
    assert found, f"docs/{page} has no section {heading!r}"
    return found[2]


def rows_of(text: str, width: int | None = None) -> dict[str, list[str]]:
    """The rows of all tables (of so many columns) by every `name` in their first cell."""
    rows: dict[str, list[str]] = {}
    lines = text.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if following.startswith("|---") or len(cells) != (width or len(cells)):
            continue
        for name in re.findall(r"`([^`]+)`", cells[0]) if cells else ():
            assert name not in rows, f"{name} has two rows"
            rows[name] = cells
    return rows
