"""`quantfleet audit`: who did what to the fleet."""

from typing import Annotated

import typer

from quantfleet.cli import output
from quantfleet.cli.calling import call
from quantfleet.cli.options import CredentialsOption, Json


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(audit)


def audit(
    after: Annotated[int, typer.Option(min=0, help="Show only what came after the entry with this number.")] = 0,
    credentials: CredentialsOption = None,
    as_json: Json = False,
) -> None:
    """Show who did what to the fleet, oldest first. Needs an admin."""
    entries = call(credentials, lambda client: client.audit(after))
    if as_json:
        output.emit(entries)
        return
    rows = [(entry.sequence, output.moment(entry.at), entry.actor, entry.action, entry.subject) for entry in entries]
    output.table(("NUMBER", "WHEN", "WHO", "WHAT", "TO"), rows, "nothing has happened")
