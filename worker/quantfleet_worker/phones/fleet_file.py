"""Reads the file in which a worker's owner lists the phones that hang on the host. Not for looking at them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.yaml_tree import Document, Value, parse
from quantfleet_worker.phones.benchmark_bin import POWER_MODES
from quantfleet_worker.phones.transports.adb import DIRECTORY, AdbTransport
from quantfleet_worker.phones.transports.base import Transport
from quantfleet_worker.phones.transports.local import LocalTransport
from quantfleet_worker.phones.transports.ssh import SshTransport

ABI_OF = {"armv8": "arm64-v8a", "armv7": "armeabi-v7a"}
"""Android's name of the interface for each of Paddle Lite's builds."""
_ALWAYS = ("name", "transport", "benchmark_bin", "power_mode")
_KEYS = {
    "adb": (*_ALWAYS, "address", "directory"),
    "ssh": (*_ALWAYS, "address", "directory"),
    "local": (*_ALWAYS, "directory"),
}


@dataclass(frozen=True)
class ListedPhone:
    """A phone of the file.

    `name` is its owner's and no other phone's there; `tools` are this host's files of Paddle Lite's `benchmark_bin` by
    ABI, one at least; `power_mode` is one of POWER_MODES.
    """

    name: str
    transport: Transport
    tools: Mapping[str, Path]
    power_mode: str


@dataclass(frozen=True)
class PhonesFile:
    """The phones, and the interpreter with paddlelite that converts models for them (None where none is named)."""

    phones: tuple[ListedPhone, ...]
    opt_interpreter: Path | None


def read(path: Path) -> PhonesFile:
    """Read the file; relative paths in it start at its directory.

    Raises QuantfleetError(USAGE) with line and column for anything wrong in it, a tool that is not there included.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = f"the phones file {path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}"
        raise QuantfleetError(ErrorCode.USAGE, what, "name the file that lists the phones") from error
    root = parse(text, Document(str(path), "phones file", ErrorCode.USAGE))
    keys = root.mapping(("phones", "opt"))
    if "phones" not in keys:
        raise root.error("the file lists no phones", "write `phones:` and a list below it")
    phones = keys["phones"].each(lambda value: _phone(value, path.parent), "phone")
    names = [phone.name for phone in phones]
    for place, name in zip(keys["phones"].items(), names, strict=True):
        if names.count(name) > 1:
            raise place.error(f"{names.count(name)} phones are called {name!r}", "give each a name of its own")
    opt = keys["opt"].mapping(("interpreter",)) if "opt" in keys else {}
    interpreter = _file(opt["interpreter"], path.parent, "interpreter") if "interpreter" in opt else None
    return PhonesFile(phones, interpreter)


def _phone(value: Value, base: Path) -> ListedPhone:
    kind = _wanted(value, value.mapping(), "transport").choice("transport", tuple(_KEYS))
    keys = value.mapping(_KEYS[kind])
    tools = _wanted(value, keys, "benchmark_bin")
    found = {ABI_OF[build]: _file(tool, base, "benchmark_bin") for build, tool in tools.mapping(ABI_OF).items()}
    if not found:
        raise tools.error("no build of benchmark_bin is named", f"name one at least: {', '.join(ABI_OF)}")
    return ListedPhone(
        name=_wanted(value, keys, "name").word(),
        transport=_transport(kind, value, keys),
        tools=found,
        power_mode=keys["power_mode"].choice("power mode", POWER_MODES) if "power_mode" in keys else POWER_MODES[0],
    )


def _transport(kind: str, value: Value, keys: Mapping[str, Value]) -> Transport:
    directory = _directory(keys["directory"]) if "directory" in keys else ""
    if kind == "local":
        return LocalTransport(directory or _directory(_wanted(value, keys, "directory")))
    address = _wanted(value, keys, "address")
    if address.word().startswith("-"):
        raise address.error(f"{address.word()!r} is no address", "an address does not start with a dash")
    if kind == "adb":
        return AdbTransport(address.word(), directory or DIRECTORY)
    return SshTransport(address.word(), directory or _directory(_wanted(value, keys, "directory")))


def _wanted(value: Value, keys: Mapping[str, Value], key: str) -> Value:
    if key not in keys:
        raise value.error(f"this phone has no {key}", f"write `{key}:`")
    return keys[key]


def _directory(value: Value) -> str:
    text = value.text()
    if not text.startswith("/") or not text.strip("/"):
        raise value.error(f"{text!r} is no directory of its own", "give an absolute path, e.g. /tmp/quantfleet")
    return text.rstrip("/")


def _file(value: Value, base: Path, what: str) -> Path:
    path = value.path(base)
    if not path.is_file():
        raise value.error(f"there is no {what} {path}", "give the path of the program on this host")
    return path
