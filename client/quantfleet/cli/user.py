"""`quantfleet user`: the users of a fleet."""

from typing import Annotated

import typer

from quantfleet.cli import output
from quantfleet.cli.calling import call
from quantfleet.cli.options import CredentialsOption, Json
from quantfleet.cli.token import Ttl, make

app = typer.Typer()
User = Annotated[str, typer.Argument(metavar="NAME", help="Name of a user.")]


@app.command()
def create(
    name: User,
    role: Annotated[str, typer.Option(help="viewer, submitter or admin.")] = "submitter",
    ttl: Ttl = "24h",
    credentials: CredentialsOption = None,
    as_json: Json = False,
) -> None:
    """Make a token with which a new user logs in, and print it this once. Needs an admin."""
    make("user", name, role, ttl, credentials, as_json)


@app.command("list")
def list_users(credentials: CredentialsOption = None, as_json: Json = False) -> None:
    """Show the users that hold a certificate. Needs an admin."""
    users = call(credentials, lambda client: client.users())
    if as_json:
        output.emit(users)
        return
    rows = [(user.name, user.role, user.state, output.moment(user.expires_at)) for user in users]
    output.table(("NAME", "ROLE", "STATE", "UNTIL"), rows, "there are no users")


@app.command()
def revoke(name: User, credentials: CredentialsOption = None, as_json: Json = False) -> None:
    """Expel a user: the certificates are refused at once. Needs an admin."""
    count = call(credentials, lambda client: client.revoke_user(name))
    if as_json:
        output.emit({"user": name, "certificates": count})
    else:
        output.say(f"{name} is expelled; {count} certificate(s) are refused")
