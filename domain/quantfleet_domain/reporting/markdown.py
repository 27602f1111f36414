"""The report as GitHub Markdown, its latencies in the field's table form. Not for terminals or browsers."""

import re
from collections.abc import Iterable

from quantfleet_domain.reporting import words
from quantfleet_domain.reporting.report import Report
from quantfleet_domain.reporting.sections import Section, latency, remaining
from quantfleet_domain.reporting.table import tables

_FIELD_FORM = ("fp32", "fp16", "int8", "int8+fp16", "int8+fp16+pinned")
"""The columns that published tables of this kind have, measured or not."""


def to_markdown(report: Report) -> str:
    """The whole report as GitHub Markdown with a final newline. Names that users chose are escaped."""
    shown = [
        latency(table, [*_FIELD_FORM, *(p for p in table.precisions if p not in _FIELD_FORM)])
        for table in tables(report)
    ]
    parts = [*_opening(report), *(part for section in (*shown, *remaining(report)) for part in _section(section))]
    if report.warnings:
        parts += ["## Warnings", "\n".join(f"- {escape(warning)}" for warning in report.warnings)]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Make any text safe inside a table cell or a line: no markup, no HTML, no column or line break."""
    return re.sub(r"([\\`*\[\]<|~])", r"\\\1", " ".join(text.split()).replace("&", "&amp;"))


def _opening(report: Report) -> Iterable[str]:
    job = report.job
    yield f"# {escape(job.name)}"
    yield f"Job {escape(job.id)}: **{escape(job.state)}**."
    if job.error:
        yield f"**{escape(job.error.what)}** {escape(job.error.todo)} ({escape(job.error.code)})"
    if any(result.latency_ms for result in report.results):
        yield f"{words.PROTOCOL} {words.runs(report)}."


def _section(section: Section) -> Iterable[str]:
    rule = ("---:" if column in section.numeric else "---" for column in range(len(section.header)))
    rows = (tuple(escape(cell) for cell in row) for row in section.rows)
    yield f"## {section.title}"
    yield "\n".join(f"| {' | '.join(cells)} |" for cells in (section.header, tuple(rule), *rows))
    if section.note:
        yield escape(section.note)
