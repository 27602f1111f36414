"""Options that several commands share, and where credentials and state are by default. Not for what commands do."""

import difflib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.offers import ENGINES

CREDENTIALS_VARIABLE = "QUANTFLEET_CREDENTIALS"
SYSTEM_STATE = Path("/var/lib/quantfleet")
"""Where the units and the images of deploy/ keep their state."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, errors too.")]
CredentialsOption = Annotated[
    Path | None,
    typer.Option(
        "--credentials",
        metavar="DIR",
        envvar=CREDENTIALS_VARIABLE,
        help="Directory of the user's credentials. Default: those of `quantfleet login`, then the admin's of a "
        "coordinator on this host.",
    ),
]
LogLevel = Annotated[str, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")]
DieWithParent = Annotated[int | None, typer.Option("--die-with-parent", hidden=True, help="Process id of the parent.")]
Job = Annotated[str, typer.Argument(metavar="JOB", help="Identifier of a job, or a unique beginning of it.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Worker processes that share this machine's cores. Default: two at most."),
]


def _installed(packages: list[str] | None) -> list[str] | None:
    """The packages as given. Raises QuantfleetError(ENGINE_MISSING) for one that no job could run here."""
    for package in packages or ():
        if find_spec(package.partition(".")[0]) is None:  # looking for what is inside would run it
            what = f"the package {package} is not installed here, and --allow-code names it"
            todo = "install it in quantfleet's own environment, or correct its name: that by which Python imports it"
            raise QuantfleetError(ErrorCode.ENGINE_MISSING, what, todo)
    return packages


AllowCode = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-code",
        metavar="PACKAGE",
        callback=_installed,
        help="Python package, installed here, whose code jobs may run; repeatable.",
    ),
]


def _interpreters(given: list[str] | None) -> list[str] | None:
    """The interpreters as given. Raises QuantfleetError(USAGE) for what is no ENGINE=PYTHON of an engine there is."""
    for item in given or ():
        engine, _, python = item.partition("=")
        if engine not in ENGINES or not python:
            near = difflib.get_close_matches(engine, ENGINES, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            todo = f"write ENGINE=PYTHON; {hint}engines are {', '.join(ENGINES)}"
            raise QuantfleetError(ErrorCode.USAGE, f"--interpreter {item!r} names no engine's interpreter", todo)
    return given


Interpreters = Annotated[
    list[str] | None,
    typer.Option(
        "--interpreter",
        metavar="ENGINE=PYTHON",
        callback=_interpreters,
        help="Python of an engine that lives in an environment of its own; repeatable.",
    ),
]
Phones = Annotated[
    Path | None,
    typer.Option("--phones", metavar="FILE", help="YAML file that lists the phones and boards that hang on this host."),
]


def by_engine(given: list[str] | None) -> dict[str, str]:
    """What `--interpreter` says: the Python of each engine that has its own."""
    return {engine: python for engine, _, python in (item.partition("=") for item in given or ())}


def user_credentials() -> Path:
    """Where `quantfleet login` keeps credentials."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "quantfleet" / "credentials"


def default_state(role: str) -> Path:
    """The state directory of a coordinator or worker that was not given one."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "quantfleet" / role


def credentials_directory(given: Path | None) -> Path:
    """Whose credentials a command uses: those given, the user's, or the first admin's of a coordinator on this host."""
    if given is not None:
        return given
    places = [
        user_credentials(),
        *(state / "admin" for state in (default_state("coordinator"), SYSTEM_STATE / "coordinator")),
    ]
    for place in places:
        try:
            if (place / "current").exists():
                return place
        except PermissionError:
            continue
    raise QuantfleetError(
        ErrorCode.NO_CREDENTIALS,
        f"there are no credentials in {places[0]}",
        "ask an admin for a token and run `quantfleet login TOKEN`; on the coordinator's host give "
        "--credentials STATE/admin",
    )
