"""The phones that hang on this host as devices. Not for what a phone says of itself: see `phones.facts`."""

import logging
from pathlib import Path

from quantfleet_domain.errors import QuantfleetError
from quantfleet_domain.hardware.facts import DeviceFacts, EngineFacts, numerics_isa
from quantfleet_worker.engines.paddle_lite import ABI_OF_ENGINE
from quantfleet_worker.engines.registry import engine_named
from quantfleet_worker.phones.facts import Found, find
from quantfleet_worker.phones.fleet_file import ListedPhone, read
from quantfleet_worker.phones.opt import installed_version
from quantfleet_worker.phones.phone import DEVICE

_log = logging.getLogger(__name__)


def phone_devices(file: Path, core: int) -> tuple[DeviceFacts, ...]:
    """Every listed phone that answers, as `arm:NAME`; `core` is the host's on which their proxies run.

    One that does not answer is left out, with a warning. Raises QuantfleetError(USAGE) for a mistake in the file.
    """
    listed = read(file)
    version, missing = _converter(str(listed.opt_interpreter) if listed.opt_interpreter else "")
    found = []
    for phone in listed.phones:
        try:
            seen = find(phone.transport)
        except QuantfleetError as error:
            _log.warning("phone %s is left out: %s (%s)", phone.name, error.what, error.todo)
        else:
            found.append(_device(phone, seen, core, version, missing))
    return tuple(found)


def _converter(interpreter: str) -> tuple[str, str]:
    """The version of opt, or what is missing."""
    if not interpreter:
        return "", "the phones file names no interpreter for opt: write `opt: {interpreter: PATH}` there"
    try:
        return installed_version(interpreter), ""
    except QuantfleetError as error:
        return "", f"{error.what}: {error.todo}"


def _device(phone: ListedPhone, seen: Found, core: int, version: str, missing: str) -> DeviceFacts:
    hardware = seen.hardware
    return DeviceFacts(
        device=f"{DEVICE}{phone.name}",
        kind="arm",
        hardware=hardware,
        engines=tuple(_engine(name, abi, phone, seen, version, missing) for name, abi in ABI_OF_ENGINE.items()),
        cores=tuple(range(hardware.logical_cores)),
        slots=(0,),
        # The kernel's id of its boot: a phone that is this host, or a node of its own, shares its machine's domain.
        measurement_domain=seen.boot or f"phone/{seen.serial or phone.name}",
        numerics_isa=numerics_isa(hardware.architecture, hardware.isa),
        verified=True,
        phone=seen.phone,
        feeding=(core,),
    )


def _engine(name: str, abi: str, phone: ListedPhone, seen: Found, version: str, missing: str) -> EngineFacts:
    """An engine whose version is that of opt: what the phone's own library is, each run of it says."""
    engine = engine_named(name)
    if abi not in seen.phone.abis:
        missing = f"the phone runs no {abi} programs: take another engine"
    elif abi not in phone.tools:
        missing = f"the phones file names no benchmark_bin for {abi}: name one"
    precisions = engine.precisions_on(seen.hardware.isa)
    return EngineFacts(name, "" if missing else version, precisions, not missing, missing)
