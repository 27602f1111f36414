"""What oneDNN really ran, from its own verbose log. Not for timing: logging slows a run.

The format is oneDNN's: `onednn_verbose,v1,primitive,exec,cpu,<kind>,<implementation>,<propagation>,<memory
descriptors>,<attributes>,<auxiliary>,<problem>,<milliseconds>` (https://uxlfoundation.github.io/oneDNN/dev_guide_verbose.html).
"""

import ctypes
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from quantfleet_domain.jobs.measured import Conversion
from quantfleet_worker.engines.base import NodeCounts
from quantfleet_worker.models.paddle_quantization import QuantizedLayers

KINDS = ("convolution", "deconvolution", "inner_product", "matmul")
INTEGERS = ("u8", "s8")
SOURCE, DESTINATION = re.compile(r"\bsrc[:_]([a-z]+\d+)"), re.compile(r"\bdst[:_]([a-z]+\d+)")
STDOUT = 1


@contextmanager
def capture() -> Iterator[list[str]]:
    """Log what oneDNN executes inside the block; the list holds the lines once the block is left.

    The library prints to file descriptor 1 of the process, so that points to a temporary file meanwhile.
    """
    # Paddle has loaded the library: this finds that one, and does not load another.
    library, libc = ctypes.CDLL("libdnnl.so.3"), ctypes.CDLL(None)
    lines: list[str] = []
    libc.fflush(None)
    kept = os.dup(STDOUT)
    with tempfile.TemporaryFile("w+b") as log:
        os.dup2(log.fileno(), STDOUT)
        library.dnnl_set_verbose(1)
        try:
            yield lines
        finally:
            library.dnnl_set_verbose(0)
            libc.fflush(None)
            os.dup2(kept, STDOUT)
            os.close(kept)
        log.seek(0)
        lines.extend(log.read().decode(errors="replace").splitlines())


@dataclass(frozen=True)
class Primitive:
    """One primitive that oneDNN ran: `source` and `destination` are its data types (`f32`, `u8`), empty where it has
    none; `milliseconds` are oneDNN's own."""

    kind: str
    implementation: str
    source: str
    destination: str
    problem: str
    milliseconds: float


def executed(lines: Sequence[str]) -> list[Primitive]:
    """The primitives of a log, in the order in which they ran."""
    records = [line.split(",") for line in lines]
    return [
        Primitive(
            kind=fields[5],
            implementation=fields[6],
            source=_type(SOURCE, fields[8]),
            destination=_type(DESTINATION, fields[8]),
            problem=fields[11],
            milliseconds=float(fields[12]),
        )
        for fields in records
        if fields[2:4] == ["primitive", "exec"] and len(fields) > 12
    ]


def count(lines: Sequence[str], layers: QuantizedLayers) -> NodeCounts:
    """Count the convolutions and matrix products of one run whose source is u8 or s8, and its reorders.

    Where fewer ran in INT8 than the program quantizes, the fallbacks name oneDNN's problems that ran in float: its log
    knows no operators. Where all layers are in float, that is no fallback.
    """
    primitives = executed(lines)
    products = [item for item in primitives if item.kind in KINDS]
    integer = [item for item in products if item.source in INTEGERS][: len(layers.quantized)]
    fallbacks = [
        f"{item.problem} ({item.kind}): oneDNN ran it as {item.implementation} in float"
        for item in products
        if item.source not in INTEGERS
    ][: len(layers.quantized) - len(integer)]
    missing = len(layers.quantized) - len(integer) - len(fallbacks)
    fallbacks += ["an operator of the program: it did not run in oneDNN"] * missing
    if layers.quantized:
        fallbacks += [f"{name} ({kind}): the quantizer left its weight in float" for name, kind in layers.in_float]
    return NodeCounts(
        int8=len(integer),
        quantizable=len(layers.quantized) + len(layers.in_float),
        fallbacks=tuple(fallbacks),
        ran=tuple(f"{item.problem}/{item.implementation} ({item.kind})" for item in integer),
        conversions=_conversions(primitives),
    )


def _conversions(primitives: Sequence[Primitive]) -> tuple[Conversion, ...]:
    """The reorders by what they convert, in the order of their names; shares are of all primitives' time."""
    total = sum(item.milliseconds for item in primitives)
    kinds: dict[str, list[float]] = {}
    for item in primitives:
        if item.kind == "reorder":
            same = item.source == item.destination
            name = f"reorder ({'layout only' if same else f'{item.source} to {item.destination}'})"
            kinds.setdefault(name, []).append(item.milliseconds)
    return tuple(
        Conversion(name, len(times), sum(times) / total if total else None) for name, times in sorted(kinds.items())
    )


def _type(pattern: re.Pattern[str], descriptors: str) -> str:
    found = pattern.search(descriptors)
    return found[1] if found else ""
