"""`quantfleet login`: become a user of a fleet on this host."""

import asyncio
from typing import Annotated

import typer

from quantfleet.cli import output
from quantfleet.cli.options import CredentialsOption, Json, user_credentials


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(login)


def login(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="What `quantfleet user create` printed.")],
    credentials: CredentialsOption = None,
    as_json: Json = False,
) -> None:
    """Become a user of a fleet: trade a token for a certificate, kept with its key on this host."""
    from quantfleet_wire.joining import redeem

    directory = credentials or user_credentials()
    joined = asyncio.run(redeem(token, directory, "user"))
    if as_json:
        output.emit({"fleet": joined.fleet, "user": joined.name, "credentials": str(directory)})
    else:
        output.say(f"you are {joined.name} in fleet {joined.fleet}; credentials: {directory}")
