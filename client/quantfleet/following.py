"""Following a job from the client: submit, watch to its end, fetch what it made. Not for showing the report."""

from dataclasses import dataclass
from pathlib import Path

from quantfleet.client import Client, FinishedReport
from quantfleet.jobfile.prepare import PreparedJob
from quantfleet.outputs import write_report
from quantfleet.progress import Display
from quantfleet_domain.reporting.report import Report

EXIT_OK, EXIT_FAILED, EXIT_GATE = 0, 1, 3


@dataclass(frozen=True)
class Delivered:
    """What a job left on this disk: `page` is the HTML report (None without the extra that draws it)."""

    report: Report
    directory: Path
    page: Path | None


def default_directory(name: str) -> Path:
    """Where the report of a job of this name goes unless told otherwise."""
    safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in name).lstrip(".")
    return Path("quantfleet-report") / (safe or "job")


async def submit(client: Client, prepared: PreparedJob, display: Display, *, must_be_servable: bool) -> str:
    """Upload and submit a job; returns its identifier."""
    submitted = await client.submit(
        prepared,
        must_be_servable=must_be_servable,
        progress=lambda done, total: display.stage("uploading, bytes", done, total),
    )
    display.tasks(submitted.tasks)
    return submitted.job_id


async def follow(client: Client, job: str, display: Display) -> str:
    """Show a job until it has ended; returns its state."""
    state = ""
    async for event in client.watch(job):
        state = event.state
        display.event(event)
    return state or (await client.job(job)).job.state


async def deliver(client: Client, job: str, directory: Path) -> Delivered:
    """Write a job's report, in all its forms, and its files into `directory`. Raises REPORT_NOT_READY."""
    found: FinishedReport = await client.report(job)
    await client.fetch_files(job, directory)
    return Delivered(found.report, directory, write_report(directory, found.report, found.content))


def exit_code(report: Report) -> int:
    """0; 1 for a job that did not succeed; 3 where it did and a gate was missed."""
    if report.job.state != "succeeded":
        return EXIT_FAILED
    return EXIT_OK if all(gate.passed for gate in report.gates) else EXIT_GATE
