"""`quantfleet run`, `calibrate` and `benchmark`: a job on this machine, with a fleet that lives as long as the job."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from quantfleet.cli.options import Json, Workers
from quantfleet.cli.showing import show_delivered
from quantfleet.following import Delivered, exit_code
from quantfleet.jobfile import document
from quantfleet.jobfile.prepare import prepare
from quantfleet.progress import Display, display
from quantfleet_domain.errors import ErrorCode, QuantfleetError

Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Where to write. Default: quantfleet-report/NAME.")
]
KeepState = Annotated[bool, typer.Option("--keep-state", help="Keep the coordinator's and workers' state and logs.")]


def add_to(app: typer.Typer) -> None:
    """Add the three commands to the application."""
    app.command()(run)


def run(
    job: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")],
    out: Out = None,
    workers: Workers = None,
    keep_state: KeepState = False,
    as_json: Json = False,
) -> None:
    """Run a job on this machine: coordinator, TLS, Ray and workers start for it and are gone after it."""
    with display() as shown:
        delivered = run_embedded(document.read(job), out, workers, keep_state, shown)
    show_delivered(delivered, as_json)
    raise typer.Exit(exit_code(delivered.report))


def run_embedded(
    job: document.JobDocument, out: Path | None, workers: int | None, keep_state: bool, shown: Display
) -> Delivered:
    """Run a job that was read. Raises what `quantfleet.embedded.run_job` does."""
    from quantfleet.cli.worker import require_extras
    from quantfleet.embedded import run_job

    require_extras()
    prepared = prepare(job, lambda done, total: shown.stage("hashing, files", done, total))
    directory = out or Path("quantfleet-report") / job.name.replace("/", "-")
    if directory.exists() and not directory.is_dir():
        raise QuantfleetError(ErrorCode.USAGE, f"{directory} is a file", "give a directory as --out")
    return asyncio.run(run_job(prepared, directory, shown, workers, keep_state))
