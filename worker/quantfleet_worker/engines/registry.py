"""Finds the engines of this installation through the entry points `quantfleet.engines`. Not for loading models."""

from dataclasses import dataclass
from importlib import metadata

from quantfleet_domain.errors import ErrorCode, QuantfleetError

from .base import Engine

GROUP = "quantfleet.engines"
"""The entry point group; each entry names an engine and points at a module with an `ENGINE`."""


@dataclass(frozen=True)
class EngineListing:
    """An engine that some distribution declares. Either `version` is set, or `missing` says why it cannot run here.

    `precisions` are those that this processor has.
    """

    name: str
    runtime: str
    kind: str
    precisions: tuple[str, ...]
    version: str | None
    missing: str | None


def engines(isa: tuple[str, ...]) -> tuple[EngineListing, ...]:
    """Every declared engine, by name, without importing a runtime. A broken plug-in is listed as missing.

    `isa` are this processor's flags, as in /proc/cpuinfo.
    """
    listings = (_listing(entry, isa) for entry in metadata.entry_points(group=GROUP))
    return tuple(sorted(listings, key=lambda item: item.name))


def engine_named(name: str) -> Engine:
    """The engine of this name. Raises QuantfleetError(ENGINE_MISSING): unknown, or its plug-in is broken."""
    entries = {entry.name: entry for entry in metadata.entry_points(group=GROUP)}
    if name not in entries:
        raise QuantfleetError(
            ErrorCode.ENGINE_MISSING, f"there is no engine {name!r}", f"engines here: {', '.join(sorted(entries))}"
        )
    try:
        return _load(entries[name])
    except Exception as error:  # a plug-in is foreign code and may raise anything at import
        raise QuantfleetError(
            ErrorCode.ENGINE_MISSING,
            f"engine {name!r} cannot be imported: {_first_line(error)}",
            f"repair or remove the distribution that declares {entries[name].value}",
        ) from error


def _listing(entry: metadata.EntryPoint, isa: tuple[str, ...]) -> EngineListing:
    try:
        engine = _load(entry)
    except Exception as error:  # a plug-in is foreign code and may raise anything at import
        return EngineListing(entry.name, "", "", (), None, f"its plug-in is broken: {_first_line(error)}")
    try:
        version, missing = engine.version(), None
    except QuantfleetError as error:
        version, missing = None, f"{error.what}: {error.todo}"
    return EngineListing(engine.name, engine.runtime, engine.kind, engine.precisions_on(isa), version, missing)


def _load(entry: metadata.EntryPoint) -> Engine:
    engine = entry.load().ENGINE
    if not isinstance(engine, Engine):
        raise TypeError(f"{entry.value}.ENGINE is no Engine")
    return engine


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
