"""What a worker knows of a phone that it measures on. Not for the ways to it, nor for finding it."""

from dataclasses import dataclass
from pathlib import Path

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.phones.fleet_file import read
from quantfleet_worker.phones.transports.base import Transport

DEVICE = "arm:"
"""What the name of a phone's device begins with; the rest is its name in the phones file."""


@dataclass(frozen=True)
class Phone:
    """A phone, the tool for the ABI that is measured (a file of this host), one of `benchmark_bin.POWER_MODES`, and the
    interpreter with paddlelite that converts models. `target` is what `opt` converts to."""

    transport: Transport
    benchmark_bin: Path
    power_mode: str
    opt_interpreter: str
    target: str = "arm"


def phone_of(file: str, device: str, abi: str) -> Phone:
    """The phone of a device, by a worker's phones file, for one ABI (`arm64-v8a`, `armeabi-v7a`).

    Raises QuantfleetError: USAGE for a file with something wrong in it, ENGINE_MISSING where it lacks the phone, a tool
    of the ABI or the interpreter.
    """
    listed = read(Path(file)) if file else None
    name = device.removeprefix(DEVICE)
    found = next((phone for phone in listed.phones if phone.name == name), None) if listed else None
    if listed is None or found is None:
        raise _missing(f"{file or 'this worker'} lists no phone {name!r}", "name it in the worker's phones file")
    if abi not in found.tools:
        raise _missing(f"phone {name!r} has no benchmark_bin for {abi}", "name a build of it in the phones file")
    if listed.opt_interpreter is None:
        raise _missing(f"{file} names no interpreter for opt", "write `opt: {interpreter: PATH}` there")
    return Phone(found.transport, found.tools[abi], found.power_mode, str(listed.opt_interpreter))


def _missing(what: str, todo: str) -> QuantfleetError:
    return QuantfleetError(ErrorCode.ENGINE_MISSING, what, todo)
