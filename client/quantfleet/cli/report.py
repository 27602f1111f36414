"""`quantfleet report`: show a report.json that is on this disk."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from quantfleet.cli.options import Json
from quantfleet.rendering.terminal import print_report
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.reporting.csv import to_csv
from quantfleet_domain.reporting.markdown import to_markdown
from quantfleet_domain.reporting.report import Report

app = typer.Typer()
FORMATS = ("terminal", "md", "html", "csv", "json")


@app.callback()
def _group() -> None:
    """Show reports."""


@app.command()
def show(
    path: Annotated[Path, typer.Argument(metavar="REPORT.json", help="The report.")],
    form: Annotated[str, typer.Option("--format", help="terminal, md, html, csv or json.")] = "terminal",
    as_json: Json = False,
) -> None:
    """Show a report as tables, or print it in another form."""
    if form not in FORMATS:
        raise QuantfleetError(ErrorCode.USAGE, f"there is no format {form!r}", f"give one of {', '.join(FORMATS)}")
    report = read_report(path)
    if as_json or form == "json":
        sys.stdout.write(report.to_json().decode())
    elif form == "terminal":
        print_report(report, Console(highlight=False))
    elif form == "html":
        from quantfleet.rendering.html import to_html

        sys.stdout.write(to_html(report))
    else:
        sys.stdout.write(to_markdown(report) if form == "md" else to_csv(report))


def read_report(path: Path) -> Report:
    """The report in a file. Raises QuantfleetError(REPORT_INVALID), naming the file."""
    try:
        return Report.from_json(path.read_bytes())
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror}"
        raise QuantfleetError(ErrorCode.REPORT_INVALID, what, "give a report.json that quantfleet wrote") from error
    except QuantfleetError as error:
        raise QuantfleetError(error.code, f"{path}: {error.what}", error.todo) from error
