"""What a worker knows of a phone that it measures on. Not for the ways to it, nor for finding it."""

from dataclasses import dataclass
from pathlib import Path

from quantfleet_worker.phones.transports.base import Transport


@dataclass(frozen=True)
class Phone:
    """A phone, the tool for the ABI that is measured (a file of this host), one of `benchmark_bin.POWER_MODES`, and the
    interpreter with paddlelite that converts models. `target` is what `opt` converts to."""

    transport: Transport
    benchmark_bin: Path
    power_mode: str
    opt_interpreter: str
    target: str = "arm"
