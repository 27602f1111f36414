"""`quantfleet job`: submit jobs to a fleet, follow them, and fetch what they made."""

from pathlib import Path
from typing import Annotated

import typer

from quantfleet.cli import output
from quantfleet.cli.calling import call
from quantfleet.cli.options import CredentialsOption, Job, Json
from quantfleet.cli.showing import show_delivered
from quantfleet.client import Client
from quantfleet.following import EXIT_FAILED, Delivered, default_directory, deliver, exit_code, follow, submit
from quantfleet.jobfile.prepare import load_job
from quantfleet.progress import display
from quantfleet_domain.errors import ErrorCode, QuantfleetError

app = typer.Typer()
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where to write the report and the files.")]


@app.command("submit")
def submit_job(
    file: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check and plan; the files are uploaded.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job until it has ended.")] = False,
    out: Out = None,
    credentials: CredentialsOption = None,
    as_json: Json = False,
) -> None:
    """Submit a job to the fleet. With --out (or --watch) it is followed to its end."""
    with display() as shown:
        prepared = load_job(file, lambda done, total: shown.stage("hashing, files", done, total))

        async def use(client: Client) -> tuple[str, Delivered | None]:
            if dry_run:
                planned = await client.submit(prepared, dry_run=True)
                shown.tasks(planned.tasks)
                if as_json:
                    output.emit(planned)
                return "", None
            job = await submit(client, prepared, shown, must_be_servable=False)
            if not watch and out is None:
                return job, None
            shown.note(f"job {job}")
            await follow(client, job, shown)
            return job, await deliver(client, job, out or default_directory(prepared.spec.name))

        job, delivered = call(credentials, use)
    if delivered:
        show_delivered(delivered, as_json)
        raise typer.Exit(exit_code(delivered.report))
    if job:
        output.emit({"job_id": job}) if as_json else output.say(job)


@app.command("list")
def list_jobs(credentials: CredentialsOption = None, as_json: Json = False) -> None:
    """Show all jobs, newest first."""
    jobs = call(credentials, lambda client: client.jobs())
    if as_json:
        output.emit(jobs)
        return
    rows = [
        (job.job_id, job.name, job.state, f"{job.ended_tasks}/{job.tasks}", job.user, output.moment(job.created_at))
        for job in jobs
    ]
    output.table(("JOB", "NAME", "STATE", "TASKS", "USER", "SUBMITTED"), rows, "there are no jobs")


@app.command()
def status(job: Job, credentials: CredentialsOption = None, as_json: Json = False) -> None:
    """Show a job and its tasks."""
    found = call(credentials, lambda client: client.job(job))
    if as_json:
        output.emit(found)
        return
    output.say(f"{found.job.job_id} {found.job.name}: {found.job.state}")
    rows = [
        (
            task.task_id,
            task.state,
            f"{task.node}/{task.device}" if task.node else "-",
            f"{task.progress:.0%} {task.doing}" if task.state == "leased" else task.failure.what or "-",
        )
        for task in found.tasks
    ]
    output.table(("TASK", "STATE", "WHERE", "DOING OR REASON"), rows, "it has no tasks")


@app.command()
def watch(job: Job, credentials: CredentialsOption = None, as_json: Json = False) -> None:
    """Follow a job until it has ended; the exit code says how: 0 succeeded, 1 not, 3 with a gate missed."""
    with display() as shown:

        async def use(client: Client) -> tuple[str, int]:
            shown.tasks((await client.job(job)).tasks)
            state = await follow(client, job, shown)
            # A cancelled job has no report, and no gates to miss.
            return state, exit_code((await client.report(job)).report) if state != "cancelled" else EXIT_FAILED

        state, code = call(credentials, use)
    output.emit({"job_id": job, "state": state}) if as_json else output.say(state)
    raise typer.Exit(code)


@app.command()
def explain(job: Job, credentials: CredentialsOption = None, as_json: Json = False) -> None:
    """Say what each unfinished task waits for."""
    waiting = call(credentials, lambda client: client.explain(job))
    if as_json:
        output.emit(waiting)
        return
    rows = [(task.task_id, task.state, task.reason) for task in waiting]
    output.table(("TASK", "STATE", "WHY"), rows, "every task has ended")


@app.command()
def logs(
    job: Job,
    task: Annotated[str, typer.Option(metavar="TASK", help="Only of this task.")] = "",
    credentials: CredentialsOption = None,
    as_json: Json = False,
) -> None:
    """Show why attempts failed and what they printed, oldest first."""
    attempts = call(credentials, lambda client: client.logs(job, task))
    if as_json:
        output.emit(attempts)
        return
    for attempt in attempts:
        output.say(f"{output.moment(attempt.at)} {attempt.task_id} attempt {attempt.epoch} on {attempt.node}")
        output.say(f"  {attempt.failure.code}: {attempt.failure.what}")
        if attempt.failure.todo:
            output.say(f"  to do: {attempt.failure.todo}")
        for line in attempt.log_tail.splitlines():
            output.say(f"  | {line}")
    if not attempts:
        output.say("no attempt has failed")


@app.command()
def cancel(job: Job, credentials: CredentialsOption = None, as_json: Json = False) -> None:
    """End a job."""
    ended = call(credentials, lambda client: client.cancel(job))
    output.emit(ended) if as_json else output.say(f"{ended.job_id} {ended.name}: {ended.state}")


@app.command()
def retry(job: Job, credentials: CredentialsOption = None, as_json: Json = False) -> None:
    """Try again what did not succeed; what did is kept."""
    running = call(credentials, lambda client: client.retry(job))
    output.emit(running) if as_json else output.say(f"{running.job_id} {running.name}: {running.state}")


@app.command()
def report(job: Job, out: Out = None, credentials: CredentialsOption = None, as_json: Json = False) -> None:
    """Write a finished job's report, scale tables and quantized models to --out, and show the report."""
    if out is None:
        raise QuantfleetError(ErrorCode.USAGE, "where to?", "give --out DIR")
    delivered = call(credentials, lambda client: deliver(client, job, out))
    show_delivered(delivered, as_json)
    raise typer.Exit(exit_code(delivered.report))
