"""Asks another Python what engines it has: those to which a worker's owner gave an interpreter. Not for running them.

`python -m quantfleet_worker.engines.elsewhere ENGINE…` is the side that answers: one line of JSON, without importing a
runtime.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata

from quantfleet_domain.errors import QuantfleetError
from quantfleet_worker.engines.registry import engine_named
from quantfleet_worker.execution.spec import RunSpec, environment_of

TIMEOUT_SECONDS = 60.0
"""Long enough for a Python that starts from a cold disk; the child imports no runtime."""
DISTRIBUTION = "quantfleet"
_INSTALL = "install the same version of quantfleet there: {interpreter} -m pip install --no-deps quantfleet=={version}"


@dataclass(frozen=True)
class Elsewhere:
    """What an interpreter said of an engine: either `version` is set, or `missing` says why it cannot run there."""

    version: str | None
    missing: str | None


def ask(
    interpreter: str,
    engines: Sequence[str],
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> dict[str, Elsewhere]:
    """Each engine's version under that interpreter, or what is missing there, by name.

    The child gets the environment that the engine's runs will get; `environment` are variables on top, as in `RunSpec`.
    Nothing that is wrong with the interpreter is raised: it is what is missing for every engine.
    """
    spec = RunSpec((), interpreter=interpreter, environment=environment or {})
    command = [interpreter, "-m", __name__, *engines]
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment_of(spec, os.environ),
            process_group=0,
        )
    except OSError as error:
        return _all_lack(
            engines, f"{interpreter} cannot be started: {error.strerror}", "name a Python that is installed here"
        )
    with child:
        try:
            answer, said = child.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)  # an interpreter may be a script whose own child holds the pipes open
            what = f"{interpreter} did not answer in {timeout_seconds:g} s"
            return _all_lack(engines, what, "start it by hand and see what holds it up")
    return _read(answer, said or f"it ended with status {child.returncode} and said nothing", interpreter, engines)


def main(names: Sequence[str]) -> None:
    """Answer for this interpreter."""
    print(json.dumps({"quantfleet": _own_version(), "engines": {name: asdict(_here(name)) for name in names}}))  # noqa: T201 - the answer


def _here(name: str) -> Elsewhere:
    try:
        return Elsewhere(engine_named(name).version(), None)
    except QuantfleetError as error:
        return Elsewhere(None, f"{error.what}: {error.todo}")


def _read(answer: str, said: str, interpreter: str, engines: Sequence[str]) -> dict[str, Elsewhere]:
    ours = _own_version()
    install = _INSTALL.format(interpreter=interpreter, version=ours)
    try:
        told = json.loads(answer.splitlines()[-1])
        theirs, found = str(told["quantfleet"]), {name: Elsewhere(**told["engines"][name]) for name in engines}
    except (IndexError, KeyError, TypeError, ValueError):
        last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
        if "No module named 'quantfleet" in last:
            return _all_lack(engines, f"quantfleet cannot be imported by {interpreter}", install)
        return _all_lack(engines, f"{interpreter} does not run quantfleet: {last}", install)
    if theirs != ours:
        return _all_lack(engines, f"{interpreter} has quantfleet {theirs}, and this worker is {ours}", install)
    return {
        name: Elsewhere(None, f"{interpreter}: {item.missing}") if item.version is None else item
        for name, item in found.items()
    }


def _own_version() -> str:
    return metadata.version(DISTRIBUTION)


def _all_lack(engines: Sequence[str], what: str, todo: str) -> dict[str, Elsewhere]:
    return dict.fromkeys(engines, Elsewhere(None, f"{what}: {todo}"))


if __name__ == "__main__":
    main(sys.argv[1:])
