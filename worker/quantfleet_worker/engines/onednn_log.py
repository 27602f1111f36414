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


def count(lines: Sequence[str], quantizable: int) -> NodeCounts:
    """Count the convolutions and matrix products of one run whose source is u8 or s8.

    `quantizable` is how many the quantizer meant to run in INT8; where fewer did, the float ones are the fallbacks.
    """
    executed = [
        fields for line in lines if (fields := line.split(","))[2:4] == ["primitive", "exec"] and len(fields) > 11
    ]
    products = [fields for fields in executed if fields[5] in KINDS]
    in_float = [fields for fields in products if not INT8_SOURCE.search(fields[8])]
    int8 = min(len(products) - len(in_float), quantizable)
    missing = quantizable - int8
    fallbacks = [f"{fields[11]} ({fields[5]}): ran as {fields[6]} in float" for fields in in_float][:missing]
    fallbacks += ["an operator of the program (convolution or product): did not run in oneDNN"] * (
        missing - len(fallbacks)
    )
    return NodeCounts(int8, quantizable, tuple(fallbacks))
