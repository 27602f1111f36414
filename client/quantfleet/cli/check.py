"""`quantfleet check`: find the figures of a report, ours or a published one, that contradict each other."""

from pathlib import Path
from typing import Annotated

import typer

from quantfleet.cli import output
from quantfleet.cli.options import Json
from quantfleet.rendering.terminal import printable
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.reporting.checking.evidence import check_report
from quantfleet_domain.reporting.checking.findings import Checked, Severity
from quantfleet_domain.reporting.checking.lint import check_markdown
from quantfleet_domain.reporting.codec import to_value
from quantfleet_domain.reporting.report import Report


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(check)


def check(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A report.json, or a Markdown file with tables.")],
    as_json: Json = False,
) -> None:
    """Find figures that contradict each other: in a report.json, or in the tables of any Markdown file.

    The exit code is 1 where there are faults; what a reader has to guess, such as a unit, is a note and no fault.
    """
    checked = check_file(path)
    faults = checked.of(Severity.FAULT)
    if as_json:
        output.emit({"file": str(path), **to_value(checked), "faults": len(faults)})
    else:
        _show(checked)
    raise typer.Exit(1 if faults else 0)


def check_file(path: Path) -> Checked:
    """What is found in a file. Raises QuantfleetError(REPORT_INVALID), naming the file, where it cannot be judged."""
    try:
        data = path.read_bytes()
        # Markdown may begin with a bracket, but no text with a table is a JSON object.
        if path.suffix == ".json" or data.lstrip().startswith(b"{"):
            return check_report(Report.from_json(data))
        return check_markdown(data.decode("utf-8-sig"))
    except OSError as error:
        raise _unreadable(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _unreadable(f"{path} is neither a report.json nor UTF-8 text") from error
    except QuantfleetError as error:
        raise QuantfleetError(error.code, f"{path}: {error.what}", error.todo) from error


def _unreadable(what: str) -> QuantfleetError:
    return QuantfleetError(ErrorCode.REPORT_INVALID, what, "give a report.json or a Markdown file with a table")


def _show(checked: Checked) -> None:
    counts = []
    for severity in Severity:
        findings = checked.of(severity)
        part = None
        for finding in findings:
            if finding.part != part:
                part = finding.part
                output.say(printable(part))
            output.say(printable(f"  {severity}, {finding.rule}: {finding.where}: {finding.what}"))
        if findings:
            output.say("")
        counts.append(f"{len(findings)} {severity}{'' if len(findings) == 1 else 's'}")
    judged = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in checked.judged.items())
    output.say(f"{', '.join(counts)}; judged: {judged}")
