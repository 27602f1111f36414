"""The command line put together: the groups of commands, and how errors become messages and exit codes."""

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from quantfleet.cli import (
    audit,
    check,
    coordinator,
    job,
    local,
    login,
    node,
    pool,
    report,
    scales,
    token,
    user,
    worker,
)
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.errors import exit_code

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 130, 143
# Typer brings its own copy of click or uses click, depending on its version; its one public error leads to the base.
_ClickError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if issubclass(kind, Exception) and kind.__name__ == "ClickException"
)

app = typer.Typer(
    name="quantfleet",
    help="Calibrate neural networks for INT8 on a fleet of unlike machines, and measure what they gain and lose.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
local.add_to(app)
login.add_to(app)
audit.add_to(app)
check.add_to(app)
for group, name, text in (
    (job.app, "job", "Submit jobs to a fleet and follow them."),
    (report.app, "report", "Show reports."),
    (scales.app, "scales", "Look at scale tables."),
    (node.app, "node", "The nodes of a fleet."),
    (pool.app, "pool", "The pools that targets may name."),
    (token.app, "token", "Single-use tokens, with which nodes and users join."),
    (user.app, "user", "The users of a fleet."),
    (worker.app, "worker", "A worker on this host."),
    (coordinator.app, "coordinator", "A coordinator on this host."),
):
    app.add_typer(group, name=name, help=text, no_args_is_help=True)


def _show_version(value: bool) -> None:
    if value:
        sys.stdout.write(f"quantfleet {version('quantfleet')}\n")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options before any command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: one clear message for every error, and no traceback.

    0 ok, 1 failed or partial, 2 usage or bad input, 3 gate missed, 4 unreachable, 5 refused, 130 interrupted, 143
    terminated. QUANTFLEET_DEBUG=1 shows the traceback too.
    """
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read standard output has enough; the interpreter must not complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    return code


def _run(words: list[str]) -> int:
    as_json = "--json" in words
    try:
        code = app(words, prog_name="quantfleet", standalone_mode=False)
    except QuantfleetError as error:
        _debug()
        _complain(error, as_json)
        return exit_code(error)
    except _ClickError as error:
        return _usage(error, as_json)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("interrupted\n")
        return EXIT_INTERRUPTED
    except asyncio.CancelledError:
        sys.stderr.write("terminated\n")
        return EXIT_TERMINATED
    except BrokenPipeError:
        raise
    except Exception as error:
        _debug()
        todo = "this is a defect of quantfleet: run it again with QUANTFLEET_DEBUG=1 and report what it prints"
        _complain(QuantfleetError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}", todo), as_json)
        return EXIT_FAILED
    return code if isinstance(code, int) else 0


def _debug() -> None:
    if os.environ.get("QUANTFLEET_DEBUG") == "1":
        traceback.print_exc()


def _usage(error: Exception, as_json: bool) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{context.get_help()}\n" if context else "")
        return EXIT_USAGE
    path = context.command_path if context else "quantfleet"
    what = str(getattr(error, "format_message", error.__str__)())
    _complain(QuantfleetError(ErrorCode.USAGE, what, f"see `{path} --help`"), as_json)
    return EXIT_USAGE


def _complain(error: QuantfleetError, as_json: bool) -> None:
    if as_json:
        body = {"error": {"code": error.code, "what": error.what, "todo": error.todo}}
        sys.stdout.write(json.dumps(body, indent=2, ensure_ascii=False) + "\n")
        return
    sys.stderr.write(f"error: {error.what}\n" + (f"  to do: {error.todo}\n" if error.todo else ""))
