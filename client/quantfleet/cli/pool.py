"""`quantfleet pool`: the named selectors that targets may name."""

from typing import Annotated

import typer

from quantfleet.cli import output
from quantfleet.cli.calling import call
from quantfleet.cli.options import CredentialsOption, Json

app = typer.Typer()


@app.command("list")
def list_pools(credentials: CredentialsOption = None, as_json: Json = False) -> None:
    """Show the pools and what they select."""
    pools = call(credentials, lambda client: client.pools())
    if as_json:
        output.emit(pools)
        return
    output.table(("NAME", "SELECTOR"), [(pool.name, pool.selector) for pool in pools], "there are no pools")


@app.command()
def put(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the pool.")],
    selector: Annotated[
        str, typer.Argument(metavar="SELECTOR", help="Conditions on device facts, e.g. 'isa contains avx512_vnni'.")
    ],
    credentials: CredentialsOption = None,
    as_json: Json = False,
) -> None:
    """Define a pool, or define it anew. Needs an admin."""
    call(credentials, lambda client: client.put_pool(name, selector))
    if as_json:
        output.emit({"name": name, "selector": selector})
    else:
        output.say(f"pool {name}: {selector}")
