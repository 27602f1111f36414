"""`quantfleet node`: the nodes of a fleet."""

from typing import Annotated

import typer

from quantfleet.cli import output
from quantfleet.cli.calling import call
from quantfleet.cli.options import CredentialsOption, Json
from quantfleet_domain.hardware.facts import DeviceFacts
from quantfleet_wire.codec import decode

app = typer.Typer()
Node = Annotated[str, typer.Argument(metavar="NODE", help="Name of a node.")]


@app.command("list")
def list_nodes(credentials: CredentialsOption = None, as_json: Json = False) -> None:
    """Show the nodes, their devices, and whether they live."""
    nodes = call(credentials, lambda client: client.nodes())
    if as_json:
        output.emit(nodes)
        return
    rows = [
        (
            node.name,
            node.state,
            f"{node.silent_s:.0f} s" if node.HasField("silent_s") else "-",
            node.leased,
            ", ".join(f"{facts.device} ({decode(facts, DeviceFacts).model_name})" for facts in node.devices) or "-",
            node.version or "-",
        )
        for node in nodes
    ]
    output.table(("NAME", "STATE", "SILENT", "TASKS", "DEVICES", "VERSION"), rows, "no node has joined")


@app.command()
def cordon(node: Node, credentials: CredentialsOption = None, as_json: Json = False) -> None:
    """Give a node no new tasks; it keeps those that it holds. Needs an admin."""
    call(credentials, lambda client: client.cordon(node))
    _done(as_json, node, f"{node} is given no new tasks")


@app.command()
def uncordon(node: Node, credentials: CredentialsOption = None, as_json: Json = False) -> None:
    """Give a node tasks again. Needs an admin."""
    call(credentials, lambda client: client.uncordon(node))
    _done(as_json, node, f"{node} is given tasks again")


@app.command()
def drain(node: Node, credentials: CredentialsOption = None, as_json: Json = False) -> None:
    """Give a node no new tasks, and say how many it still holds; then it may be stopped. Needs an admin."""
    leased = call(credentials, lambda client: client.drain(node))
    _done(as_json, node, f"{node} is given no new tasks and holds {leased}", leased=leased)


@app.command()
def revoke(node: Node, credentials: CredentialsOption = None, as_json: Json = False) -> None:
    """Expel a node: its certificates are refused at once and its tasks go to others. Needs an admin."""
    count = call(credentials, lambda client: client.revoke_node(node))
    _done(as_json, node, f"{node} is expelled; {count} certificate(s) are refused", certificates=count)


def _done(as_json: bool, node: str, text: str, **facts: int) -> None:
    if as_json:
        output.emit({"node": node, **facts})
    else:
        output.say(text)
