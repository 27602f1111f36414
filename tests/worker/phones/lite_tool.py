"""A program with `benchmark_bin`'s flags and format, for hosts without: unless told otherwise it gives the first two of
its input's values as its output, and it says what it is told that a round takes. That the real one is understood rests
on `printed`."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
_BODY = """#!{python}
import os, signal, sys, threading, time
sys.path.insert(0, {root!r})
from tests.worker.phones.printed import report
flags = dict(argument[2:].split("=", 1) for argument in sys.argv[1:])
model = open(flags["optimized_model_file"], "rb").read()
repeats, threads = int(flags["repeats"]), int(flags["threads"])
{first}
if repeats > 100000:
    for _ in range(threads - 1):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    time.sleep(60)
shape, values = (1, 2), []
if "output_data_path" in flags:
    values = [float(value) for value in open(flags["input_data_path"].split(":")[0]).read().split()]
    shape, values = {computed}
    open(flags["output_data_path"], "w").write("".join("%.6g\\n" % value for value in values))
mean = float({mean_ms})
memory = (3.0, 61.5) if "enable_memory_profile" in flags else None
print(report(figures=({init_ms}, 3 * mean, mean / 2, 2 * mean, mean), shapes=(shape,), memory=memory, head=""))
"""


def tool(
    folder: Path,
    mean_ms: str = "1",
    *,
    first: str = "",
    init_ms: float = 1.25,
    computed: str = "((1, 2), values[:2])",
) -> Path:
    """`mean_ms` and `computed` are expressions, `first` are statements; all see `model` (its bytes), `flags`, `threads`
    and `repeats`. `computed` is the shape and the values of the output, and sees the input's `values` too; `init_ms` is
    what it says that loading takes. A run of very many repeats lasts until it is ended."""
    path = folder / "benchmark_bin"
    path.write_text(
        _BODY.format(
            python=sys.executable, root=str(ROOT), first=first, mean_ms=mean_ms, init_ms=init_ms, computed=computed
        )
    )
    path.chmod(0o755)
    return path
