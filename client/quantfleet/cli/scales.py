"""`quantfleet scales`: look at a scale table, or at what two of them differ in."""

from pathlib import Path
from typing import Annotated

import typer

from quantfleet.cli import output
from quantfleet.cli.options import Json
from quantfleet_domain.calibration.diff import diff as tables_diff
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.reporting.codec import to_value

app = typer.Typer()


@app.command()
def show(
    path: Annotated[Path, typer.Argument(metavar="SCALES.json", help="A scale table.")], as_json: Json = False
) -> None:
    """Show the clip range of every activation, and the largest weight of every weight tensor."""
    table = read_scales(path)
    if as_json:
        output.emit(to_value(table))
        return
    for name, value in to_value(table.header).items():
        output.say(f"{name}: {value}")
    output.say(f"sha256: {table.sha256}\n")
    activations = [
        (row.tensor, f"{row.lo:.6g}", f"{row.hi:.6g}", row.calibrator, row.tied_to or "-") for row in table.activations
    ]
    output.table(("ACTIVATION", "LO", "HI", "CALIBRATOR", "TIED TO"), activations, "no activations")
    output.say("")
    weights = [(row.tensor, row.axis, len(row.absmax), f"{max(row.absmax):.6g}") for row in table.weights]
    output.table(("WEIGHT", "AXIS", "CHANNELS", "LARGEST"), weights, "no weights")


@app.command()
def diff(
    a: Annotated[Path, typer.Argument(metavar="A.json", help="The scale table before.")],
    b: Annotated[Path, typer.Argument(metavar="B.json", help="The scale table after.")],
    as_json: Json = False,
) -> None:
    """Show what differs from A to B, the largest moves first. The exit code is 0 where they say the same, else 1."""
    found = tables_diff(read_scales(a), read_scales(b))
    if as_json:
        output.emit(to_value(found))
    elif found.empty:
        output.say("the tables say the same")
    else:
        for change in found.header:
            output.say(f"{change.field}: {change.before} -> {change.after}")
        for side, names in (
            (a, (*found.activations_only_in_a, *found.weights_only_in_a)),
            (b, (*found.activations_only_in_b, *found.weights_only_in_b)),
        ):
            for name in names:
                output.say(f"{name}: only in {side}")
        rows = [
            (c.tensor, f"[{c.before.lo:.6g}, {c.before.hi:.6g}]", f"[{c.after.lo:.6g}, {c.after.hi:.6g}]", c.relative)
            for c in sorted(found.activations_changed, key=lambda change: -change.relative)
        ]
        shown = [(tensor, before, after, f"{relative:.2%}") for tensor, before, after, relative in rows]
        output.table(("ACTIVATION", "BEFORE", "AFTER", "MOVED"), shown, "no activation differs")
        for weight in found.weights_changed:
            moved = "another shape" if weight.relative is None else f"{weight.relative:.2%}"
            output.say(f"weight {weight.tensor}: {moved}")
    raise typer.Exit(0 if found.empty else 1)


def read_scales(path: Path) -> ScaleTable:
    """The scale table in a file. Raises QuantfleetError(SCALES_INVALID), naming the file."""
    try:
        return ScaleTable.from_json(path.read_bytes())
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror}"
        raise QuantfleetError(ErrorCode.SCALES_INVALID, what, "give a scales.json that quantfleet wrote") from error
    except QuantfleetError as error:
        raise QuantfleetError(error.code, f"{path}: {error.what}", error.todo) from error
