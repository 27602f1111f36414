"""`quantfleet worker`: make this host a node of a fleet, run it, look at it."""

import asyncio
import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from quantfleet.cli import output, serving
from quantfleet.cli.options import (
    AllowCode,
    DieWithParent,
    Interpreters,
    Json,
    LogLevel,
    Phones,
    by_engine,
    default_state,
)
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.facts import DeviceFacts

app = typer.Typer()
State = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="State directory. Default: ~/.local/share/quantfleet/worker."),
]
Cores = Annotated[
    str,
    typer.Option("--cores", metavar="0,1", help="Logical cores that tasks may fill. Default: all that are usable."),
]


@app.command()
def join(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="What `quantfleet token create` printed.")],
    state: State = None,
    as_json: Json = False,
) -> None:
    """Make this host a node: trade a token for a certificate. The key is made here and never leaves this host."""
    from quantfleet_wire.joining import redeem

    directory = state or default_state("worker")
    joined = asyncio.run(redeem(token, directory / "credentials", "node"))
    if as_json:
        output.emit({"fleet": joined.fleet, "node": joined.name, "state": str(directory)})
    else:
        output.say(f"joined fleet {joined.fleet} as node {joined.name}; next: quantfleet worker run")


@app.command()
def run(
    state: State = None,
    cores: Cores = "",
    allow_code: AllowCode = None,
    interpreter: Interpreters = None,
    phones: Phones = None,
    log_level: LogLevel = "info",
    die_with_parent: DieWithParent = None,
    as_json: Json = False,  # noqa: ARG001 - every command has it; this one prints nothing on standard output
) -> None:
    """Take tasks until SIGTERM or Ctrl-C. It dials out to the coordinator and listens to nobody."""
    serving.prepare(log_level, die_with_parent)
    require_extras()
    from quantfleet_wire.identity_files import load_credentials
    from quantfleet_worker.agent.agent import Agent, slot_names
    from quantfleet_worker.doctor.doctor import with_proofs
    from quantfleet_worker.equipment import Equipment
    from quantfleet_worker.execution.ray_host import RayHost
    from quantfleet_worker.probes.devices import probe as probe_devices

    directory = state or default_state("worker")
    load_credentials(directory / "credentials")  # before the seconds that Ray takes
    equipment = Equipment(directory / "engines", by_engine(interpreter), phones)
    devices = with_proofs(probe_devices(parse_cores(cores), tuple(allow_code or ()), equipment), directory)

    async def work() -> None:
        await Agent(directory, devices, host, equipment).run()

    with RayHost(slot_names(devices)) as host:
        serving.until_told(work())


@app.command()
def probe(cores: Cores = "", interpreter: Interpreters = None, phones: Phones = None, as_json: Json = False) -> None:
    """Show what this host is: its devices, their verified facts and their engines. Takes seconds."""
    require_extras()
    from quantfleet_domain.reporting.codec import to_value
    from quantfleet_worker.equipment import Equipment
    from quantfleet_worker.probes.devices import probe as probe_devices

    equipment = Equipment(default_state("worker") / "engines", by_engine(interpreter), phones)
    devices = probe_devices(parse_cores(cores), equipment=equipment)
    if as_json:
        output.emit([to_value(facts) for facts in devices])
        return
    for facts in devices:
        hardware = facts.hardware
        output.say(f"{facts.device}: {facts.model_name}, {len(facts.slots)} of {len(facts.cores)} usable cores")
        output.say(f"  isa: {' '.join(facts.isa)}")
        if facts.gpu:
            output.say(f"  driver {facts.gpu.driver}, CUDA up to {facts.gpu.cuda}, fed by cores {list(facts.cores)}")
        if facts.phone:
            output.say(f"  {facts.phone.transport} {facts.phone.address}: {facts.phone.system}, {facts.phone.abis}")
        if hardware.vnni and not facts.gpu:
            output.say(f"  int8 self-test: {hardware.vnni.verdict}, {hardware.vnni.ratio:.2f} times as fast as float32")
        for engine in facts.engines:
            found = f"{engine.version} ({', '.join(engine.precisions)})" if engine.available else engine.missing
            output.say(f"  {engine.name}: {found}")


@app.command()
def doctor(
    state: State = None,
    interpreter: Interpreters = None,
    phones: Phones = None,
    as_json: Json = False,
) -> None:
    """Try every engine found here on a small model made on the spot: whether it is right, and INT8 really runs.

    What is found becomes part of the node's verified facts when its worker is started again. The exit code is 1 where
    an engine that is there fails.
    """
    require_extras()
    from quantfleet_domain.reporting.codec import to_value
    from quantfleet_worker.doctor.doctor import examine, save_proofs
    from quantfleet_worker.engines.registry import engines
    from quantfleet_worker.equipment import Equipment
    from quantfleet_worker.probes.devices import probe as probe_devices

    directory = state or default_state("worker")
    equipment = Equipment(directory / "engines", by_engine(interpreter), phones)
    equipment.kept.mkdir(parents=True, exist_ok=True)
    devices = examine(
        probe_devices(equipment=equipment), equipment, lambda line: typer.echo(f"doctor: {line}", err=True)
    )
    save_proofs(devices, directory)
    failed = any(not proof.passed for facts in devices for engine in facts.engines for proof in engine.proofs)
    if as_json:
        output.emit([to_value(facts) for facts in devices])
    else:
        for facts in devices:
            _show_proofs(facts)
        kinds = {facts.kind for facts in devices}
        for listing in engines(()):
            if listing.kind and listing.kind not in kinds:
                lacking = f"no {listing.kind} device is here" + (f"; {listing.missing}" if listing.missing else "")
                output.say(f"{listing.name}: {lacking}")
    raise typer.Exit(1 if failed else 0)


def _show_proofs(facts: DeviceFacts) -> None:
    output.say(f"{facts.device}: {facts.model_name}")
    for engine in facts.engines:
        output.say(f"  {engine.name} {engine.version if engine.available else f'is missing: {engine.missing}'}")
        for proof in engine.proofs:
            output.say(f"    {proof.precision}: {'works' if proof.passed else 'FAILS'}: {proof.finding}")


def parse_cores(text: str) -> tuple[int, ...] | None:
    """The cores of `0,1` or `0-3`; None for none given. Raises QuantfleetError(USAGE)."""
    if not text:
        return None
    found: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
    except ValueError:
        what = f"--cores {text!r} is no list of cores"
        raise QuantfleetError(ErrorCode.USAGE, what, "write e.g. 0,1 or 0-3") from None
    return tuple(found)


def require_extras() -> None:
    """Raise QuantfleetError(USAGE) with the pip command where what a worker needs is not installed."""
    for package in ("ray", "psutil", "cv2"):
        if importlib.util.find_spec(package) is None:
            what = f"a worker needs {package}, which is not installed"
            todo = "run: pip install 'quantfleet[worker,onnxruntime]', and add paddle for Paddle models"
            raise QuantfleetError(ErrorCode.USAGE, what, todo)
