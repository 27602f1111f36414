"""Reads the tables of a Markdown file, with the headings and the text around them. Not for what the tables say."""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_PIPE = re.compile(r"(?<!\\)\|")
_DELIMITER = re.compile(r"\s*:?-+:?\s*")
_LONG_DELIMITER = re.compile(r"\s*:?-{3,}:?\s*")
_HEADING = re.compile(r"\s{0,3}(#{1,6})\s+(.*?)\s*#*\s*")
_CAPTION = re.compile(r"\s*\*\*([^*]+)\*\*\s*[:\uff1a]?\s*")
_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})")
_MARKUP = re.compile(
    r"\\(?P<escaped>[!-/:-@\[-`{-~])|!\[[^\[\]]*\]\([^)]*\)|\[(?P<link>[^\[\]]*)\]\([^)]*\)"
    r"|(?P<break><br\s*/?>)|<sup>.*?</sup>|</?[A-Za-z][^<>]*>|[*`]+|~~"
)
_CAPTION_LEVEL = 7
_SHOWN_HEADINGS, _SHOWN_LETTERS = 2, 60


@dataclass(frozen=True)
class PublishedTable:
    """A table: number in the file (from 1), line of its header (from 1), headings above it, outermost first.

    Cells are plain text without markup; every row has as many as the `header`. `context` is the text of the table's
    section and of those around it, without tables.
    """

    ordinal: int
    line: int
    headings: tuple[str, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    context: str

    @property
    def name(self) -> str:
        """What to call it: number, line and the nearest headings."""
        shown = [h if len(h) <= _SHOWN_LETTERS else h[:_SHOWN_LETTERS] + "…" for h in self.headings[-_SHOWN_HEADINGS:]]
        return f"table {self.ordinal}, line {self.line}" + (f": {' > '.join(shown)}" if shown else "")


@dataclass
class _Section:
    level: int
    title: str
    above: "_Section | None"
    text: list[str] = field(default_factory=list)

    def path(self) -> "tuple[_Section, ...]":
        return (*(self.above.path() if self.above else ()), self)


def tables_of(markdown: str) -> tuple[PublishedTable, ...]:
    """Every table with a delimiter row (GitHub Flavored Markdown, "Tables (extension)") outside of code blocks.

    Leading and trailing pipes may be missing, `\\|` is a pipe in a cell, a line without a pipe ends a table. A file
    that lost its line breaks is read too: there a delimiter row amid a line says how wide the rows around it are.
    A line that is bold as a whole counts as a heading below all others: captions are often written so.
    """
    lines = [(number, line) for number, whole in enumerate(markdown.splitlines(), 1) for line in _unfolded(whole)]
    section, fence = _Section(0, "", None), ""
    found: list[tuple[int, _Section, tuple[str, ...], tuple[tuple[str, ...], ...]]] = []
    at = 0
    while at < len(lines):
        number, line = lines[at]
        at += 1
        mark = _FENCE.match(line)
        if fence or mark:
            fence = _after_fence(fence, mark[1] if mark else "")
            continue
        heading = _heading(line)
        if heading:
            level, title = heading
            section = _Section(level, title, next(s for s in section.path()[::-1] if s.level < level))
            continue
        header = _cells(line)
        if at < len(lines) and "|" in lines[at][1] and _is_delimiter(lines[at][1], len(header)):
            end = next((i for i in range(at + 1, len(lines)) if not _PIPE.search(lines[i][1])), len(lines))
            rows = tuple(_fitted(_cells(row), len(header)) for _, row in lines[at + 1 : end])
            found.append((number, section, header, rows))
            at = end
            continue
        section.text.append(line)
    return tuple(
        PublishedTable(
            ordinal,
            number,
            tuple(s.title for s in section.path() if s.title),
            header,
            rows,
            "\n".join(part for s in section.path() for part in (s.title, *s.text)),
        )
        for ordinal, (number, section, header, rows) in enumerate(found, 1)
    )


def _heading(line: str) -> tuple[int, str] | None:
    """Level and text of a heading or a caption."""
    if found := _HEADING.fullmatch(line):
        return len(found[1]), _plain(found[2])
    caption = _CAPTION.fullmatch(line)
    return (_CAPTION_LEVEL, _plain(caption[1])) if caption else None


def _after_fence(open_with: str, mark: str) -> str:
    """The fence that is open after a line with this mark: what closes a block is of its kind, and as long or longer."""
    if not open_with:
        return mark
    return "" if mark.startswith(open_with) else open_with


def _unfolded(line: str) -> Iterator[str]:
    """The lines that a line was before its breaks were lost; itself where it has no delimiter row amid other cells."""
    pieces = _PIPE.split(line)
    runs = list(_delimiter_runs(pieces))
    if not runs:
        yield line
        return
    at = 0
    for start, width in runs:
        header = start - 1 - width
        if header < at:  # a row of dashes in the table before
            continue
        yield from re.split(r"\s+(?=#{1,6}\s)", "|".join(pieces[at:header]))
        yield f"|{'|'.join(pieces[header : header + width])}|"
        yield f"|{'|'.join(pieces[start : start + width])}|"
        at = start + width
        while at + width < len(pieces) and not pieces[at].strip():
            yield f"|{'|'.join(pieces[at + 1 : at + 1 + width])}|"
            at += 1 + width
        yield ""
    yield from re.split(r"\s+(?=#{1,6}\s)", "|".join(pieces[at:]))


def _delimiter_runs(pieces: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where (index, width) delimiter rows of two or more columns stand that have room for a header row before them."""
    at = 0
    while at < len(pieces):
        width = 0
        while at + width < len(pieces) and _LONG_DELIMITER.fullmatch(pieces[at + width]):
            width += 1
        if width > 1 and at > width and not pieces[at - 1].strip():
            yield at, width
        at += max(width, 1)


def _cells(line: str) -> tuple[str, ...]:
    pieces = _PIPE.split(line.strip())
    first = 1 if len(pieces) > 1 and not pieces[0].strip() else 0
    last = -1 if len(pieces) > 1 and not pieces[-1].strip() else None
    return tuple(_plain(piece) for piece in pieces[first:last])


def _is_delimiter(line: str, width: int) -> bool:
    cells = _cells(line)
    return len(cells) == width and all(_DELIMITER.fullmatch(cell) for cell in cells)


def _fitted(cells: tuple[str, ...], width: int) -> tuple[str, ...]:
    return (*cells, *[""] * (width - len(cells)))[:width]


def _plain(markdown: str) -> str:
    """Inline Markdown as the text that a reader sees, on one line."""
    text = _MARKUP.sub(lambda m: m["escaped"] or m["link"] or (" " if m["break"] else ""), markdown)
    return " ".join(html.unescape(text).split())
