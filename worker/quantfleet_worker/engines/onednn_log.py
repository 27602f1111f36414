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

from quantfleet_worker.engines.base import NodeCounts

KINDS = ("convolution", "deconvolution", "inner_product", "matmul")
INT8_SOURCE = re.compile(r"\bsrc[:_][us]8")
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


Nodes = Sequence[tuple[str, str]]
"""Operators of a program: (output, type)."""


def count(lines: Sequence[str], quantized: Nodes, in_float: Nodes) -> NodeCounts:
    """Count the convolutions and matrix products of one run whose source is u8 or s8.

    `quantized` are those that the program has int8 weights for, `in_float` the others with constant weights. Where
    fewer ran in INT8 than are quantized, the fallbacks name oneDNN's problems that ran in float: its log knows no
    operators.
    """
    records = [line.split(",") for line in lines]
    executed = [fields for fields in records if fields[2:4] == ["primitive", "exec"] and len(fields) > 11]
    products = [fields for fields in executed if fields[5] in KINDS]
    floats = [fields for fields in products if not INT8_SOURCE.search(fields[8])]
    if not quantized:
        return NodeCounts(0, len(in_float), ())
    int8 = min(len(products) - len(floats), len(quantized))
    missing = len(quantized) - int8
    fallbacks = [f"{fields[11]} ({fields[5]}): oneDNN ran it as {fields[6]} in float" for fields in floats][:missing]
    fallbacks += ["an operator of the program: it did not run in oneDNN"] * (missing - len(fallbacks))
    fallbacks += [f"{name} ({kind}): the quantizer left its weight in float" for name, kind in in_float]
    return NodeCounts(int8, len(quantized) + len(in_float), tuple(fallbacks))
