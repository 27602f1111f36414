"""`quantfleet token`: single-use tokens, with which nodes and users join."""

from pathlib import Path
from typing import Annotated

import typer

from quantfleet.cli import output
from quantfleet.cli.calling import call
from quantfleet.cli.options import CredentialsOption, Json
from quantfleet.jobfile.measuring import seconds
from quantfleet_domain.errors import ErrorCode, QuantfleetError

app = typer.Typer()
Ttl = Annotated[str, typer.Option(metavar="TIME", help="How long it can be redeemed, e.g. 90s, 15m or 24h.")]
ROLES = ("viewer", "submitter", "admin")


@app.command()
def create(
    node: Annotated[str, typer.Option(metavar="NAME", help="Name of the node that is to join.")] = "",
    user: Annotated[str, typer.Option(metavar="NAME", help="Name of the user who is to join.")] = "",
    role: Annotated[str, typer.Option(help="Role of the user: viewer, submitter or admin.")] = "",
    ttl: Ttl = "15m",
    credentials: CredentialsOption = None,
    as_json: Json = False,
) -> None:
    """Make a single-use token for a node or a user, and print it this once. Needs an admin."""
    if bool(node) == bool(user):
        raise QuantfleetError(ErrorCode.USAGE, "a token is for one node or one user", "give --node NAME or --user NAME")
    if node and role:
        raise QuantfleetError(ErrorCode.USAGE, "a node has no role", "leave out --role")
    make("node" if node else "user", node or user, role or ("" if node else "submitter"), ttl, credentials, as_json)


def make(purpose: str, name: str, role: str, ttl: str, credentials: Path | None, as_json: bool) -> None:
    """Make a token and print the one command that redeems it. Raises QuantfleetError(USAGE) for a role or time."""
    if purpose == "user" and role not in ROLES:
        raise QuantfleetError(ErrorCode.USAGE, f"there is no role {role!r}", f"give one of {', '.join(ROLES)}")
    ttl_s = seconds(ttl)
    if not ttl_s:
        raise QuantfleetError(ErrorCode.USAGE, f"--ttl {ttl!r} is no time", "write one such as 90s, 15m or 24h")
    made = call(credentials, lambda client: client.create_token(purpose, name, role, ttl_s))
    if as_json:
        output.emit(made)
        return
    command = "quantfleet worker join" if purpose == "node" else "quantfleet login"
    output.say(f"token {made.token_id} for {purpose} {name}, good once until {output.moment(made.expires_at)}:")
    output.say(f"{command} {made.token}")


@app.command("list")
def list_tokens(credentials: CredentialsOption = None, as_json: Json = False) -> None:
    """Show the tokens and what became of them; never their secrets. Needs an admin."""
    tokens = call(credentials, lambda client: client.tokens())
    if as_json:
        output.emit(tokens)
        return
    rows = [
        (token.token_id, token.purpose, token.name, token.role or "-", token.state, output.moment(token.expires_at))
        for token in tokens
    ]
    output.table(("TOKEN", "FOR", "NAME", "ROLE", "STATE", "UNTIL"), rows, "there are no tokens")


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="Public part of a token, as `list` shows it.")],
    credentials: CredentialsOption = None,
    as_json: Json = False,
) -> None:
    """Make a token useless. Needs an admin."""
    call(credentials, lambda client: client.revoke_token(token_id))
    if as_json:
        output.emit({"token_id": token_id})
    else:
        output.say(f"token {token_id} is useless now")
