"""`quantfleet coordinator`: serve a fleet from this host."""

import json
from pathlib import Path
from typing import Annotated

import typer

from quantfleet.cli import output, serving
from quantfleet.cli.options import DieWithParent, Json, LogLevel, default_state

app = typer.Typer()


@app.command()
def serve(
    state: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="State directory. Default: ~/.local/share/quantfleet/coordinator."),
    ] = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="For nodes and users.")] = "127.0.0.1:7443",
    enrol_listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="For who joins.")] = "127.0.0.1:7444",
    advertise: Annotated[str, typer.Option(metavar="HOST", help="The host name that others dial.")] = "127.0.0.1",
    fleet: Annotated[str, typer.Option(metavar="NAME", help="Name of the fleet, at its first start.")] = "quantfleet",
    lease_s: Annotated[float, typer.Option(hidden=True, min=0.1, help="Term of a lease, seconds.")] = 30.0,
    heartbeat_s: Annotated[float, typer.Option(hidden=True, min=0.1, help="Between heartbeats, seconds.")] = 10.0,
    log_level: LogLevel = "info",
    die_with_parent: DieWithParent = None,
    as_json: Json = False,
) -> None:
    """Serve a fleet until SIGTERM or Ctrl-C. The first start writes an admin's credentials to STATE/admin.

    Once it serves, its addresses are printed: with --json as one line of JSON.
    """
    from quantfleet_coordinator.server import Coordinator, admin_directory
    from quantfleet_coordinator.settings import Settings

    serving.prepare(log_level, die_with_parent)
    directory = state or default_state("coordinator")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = Settings(directory, listen, enrol_listen, advertise, fleet, lease_s, heartbeat_s)

    async def run() -> None:
        coordinator = Coordinator(settings)
        await coordinator.start()
        admin = admin_directory(directory)
        found = {
            "address": coordinator.address,
            "enrolment_address": coordinator.enrolment_address,
            "credentials": str(admin),
        }
        if as_json:
            output.say(json.dumps(found))
        else:
            output.say(f"serving {coordinator.address}, enrolling at {coordinator.enrolment_address}")
            output.say(f"the admin's credentials: {admin}")
        output.flush()
        try:
            await coordinator.wait()
        finally:
            await coordinator.stop()

    serving.until_told(run())
