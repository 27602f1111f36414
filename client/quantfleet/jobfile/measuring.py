"""What a job file says of measuring: targets, protocol, shards, gates and times. Not for models and samples."""

import re

from quantfleet_domain.errors import QuantfleetError
from quantfleet_domain.hardware.offers import ENGINES
from quantfleet_domain.hardware.precisions import PRECISIONS
from quantfleet_domain.jobs.spec import MODES, BenchmarkSpec, TargetSpec
from quantfleet_domain.reporting import gates
from quantfleet_wire.yaml_tree import Value

DEFAULT_WARMUP = 200
DEFAULT_REPEAT = 1000
DEFAULT_PATIENCE_S = 600.0
TARGET_KEYS = ("pool", "engines", "precisions", "threads", "batch_sizes", "form")
BENCHMARK_KEYS = ("modes", "warmup", "repeat", "quiet", "memory")
_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def targets(value: Value | None, precisions: tuple[str, ...]) -> tuple[TargetSpec, ...]:
    """The targets of a model: without any, every engine of the fleet that reads its format, in these precisions."""
    default = TargetSpec("", (), precisions, (1,), (1,))
    if value is None:
        return (default,)
    return tuple(_target(item, default) for item in value.items())


def _target(value: Value, default: TargetSpec) -> TargetSpec:
    keys = value.mapping(TARGET_KEYS)

    def names(key: str, what: str, known: list[str], otherwise: tuple[str, ...]) -> tuple[str, ...]:
        return keys[key].each(lambda item: item.choice(what, known), what) if key in keys else otherwise

    def counts(key: str, what: str, otherwise: tuple[int, ...]) -> tuple[int, ...]:
        return keys[key].each(lambda item: item.count(1), what) if key in keys else otherwise

    engines = names("engines", "engine", list(ENGINES), default.engines)
    return TargetSpec(
        pool=keys["pool"].text() if "pool" in keys else "",
        engines=engines,
        precisions=names("precisions", "precision", list(PRECISIONS), default.precisions),
        threads=counts("threads", "thread count", default.threads),
        batch_sizes=counts("batch_sizes", "batch size", default.batch_sizes),
        form=_form(keys, engines),
    )


def _form(keys: dict[str, Value], engines: tuple[str, ...]) -> str:
    """The INT8 form that a target asks for, which each of its engines must take; empty for the engine's own choice."""
    if "form" not in keys:
        return ""
    if not engines:
        raise keys["form"].error("a form is a matter of an engine, and this target names none", "name its engines")
    shared = [form for form in ENGINES[engines[0]].forms if all(form in ENGINES[name].forms for name in engines)]
    if not shared:
        raise keys["form"].error(f"{', '.join(engines)} share no form", "leave the form out, or make two targets")
    return keys["form"].choice("form", shared)


def benchmark(value: Value | None, modes: tuple[str, ...]) -> BenchmarkSpec:
    """The protocol; `modes` are those of a job that names none."""
    keys = value.mapping(BENCHMARK_KEYS) if value else {}
    if "modes" in keys:
        # An empty list is meant: nothing is measured.
        modes = tuple(dict.fromkeys(item.choice("mode", MODES) for item in keys["modes"].items()))
    return BenchmarkSpec(
        modes=modes,
        warmup=keys["warmup"].count(0) if "warmup" in keys else DEFAULT_WARMUP,
        repeat=keys["repeat"].count(1) if "repeat" in keys else DEFAULT_REPEAT,
        require_quiet=keys["quiet"].boolean() if "quiet" in keys else False,
        memory=keys["memory"].boolean() if "memory" in keys else False,
    )


def shards(value: Value | None) -> int:
    """How many tasks share samples; 0 for auto, which is the default."""
    if value is None:
        return 0
    try:
        return value.count(1)
    except QuantfleetError:
        try:
            if value.text() == "auto":
                return 0
        except QuantfleetError:
            pass
        raise value.error("shards is no count", "give a whole number from 1 on, or auto") from None


def gate(value: Value) -> str:
    """A gate's expression, whose mistakes are told at its place in the file and its column in the expression."""
    expression = value.text()
    try:
        gates.parse(expression)
    except QuantfleetError as error:
        raise value.error(error.what, error.todo, error.code) from error
    return expression


def seconds(text: str) -> float | None:
    """A time such as `90s`, `10m` or `1h30m` in seconds; None where the text is none."""
    if not re.fullmatch(r"(\d+(\.\d+)?[smhd])+", text):
        return None
    return sum(float(number) * _UNIT_S[unit] for number, unit in re.findall(r"([\d.]+)([smhd])", text))


def duration(value: Value) -> float:
    """A time in seconds: a number of them, or what `seconds` reads."""
    try:
        return value.number()
    except QuantfleetError:
        found = seconds(value.text())
        if found is None:
            raise value.error(f"{value.text()!r} is no time", "write one such as 90s, 10m or 1h30m") from None
        return found
