"""A report at the end of a command: tables for people, JSON for programs. Not for the report's own files."""

import json

from rich.console import Console

from quantfleet.cli import output
from quantfleet.following import Delivered
from quantfleet.rendering.terminal import print_report


def show_delivered(delivered: Delivered, as_json: bool) -> None:
    """Print a report that was written to a directory, and where."""
    if as_json:
        output.emit(
            {
                "directory": str(delivered.directory),
                "page": str(delivered.page) if delivered.page else None,
                "report": json.loads(delivered.report.to_json()),
            }
        )
        return
    print_report(delivered.report, Console(highlight=False))
    output.say(f"report: {delivered.page or delivered.directory / 'report.md'}")
    if delivered.page is None:
        output.say("for an HTML page with plots: pip install 'quantfleet[report]'")
