"""Runs a converted model with x86 Paddle Lite's own predictor, behind the flags and the format of `benchmark_bin`.

paddlelite has the library but not the tool. It is run by path, by an interpreter with paddlelite (Python 3.8 will do),
and takes the figures itself. What x86 Lite gives says nothing of a phone.
"""

import importlib
import os
import sys
import time
from pathlib import Path


def main() -> None:
    """One call of the tool."""
    sys.path.insert(0, ROOT)
    lite = importlib.import_module("paddlelite.lite")
    report = importlib.import_module("tests.worker.phones.printed").report
    flags = dict(argument[2:].split("=", 1) for argument in sys.argv[1:])
    repeats = int(flags["repeats"])
    started = time.perf_counter()
    config = lite.MobileConfig()
    config.set_model_from_file(flags["optimized_model_file"])
    predictor = lite.create_paddle_predictor(config)
    init_ms = (time.perf_counter() - started) * 1000
    shape = [int(size) for size in flags["input_shape"].split(",")]
    tensor = predictor.get_input(0)
    tensor.resize(shape)
    tensor.set_float_data([float(word) for word in Path(flags["input_data_path"]).read_text().split()])
    times = []
    for _ in range(int(flags["warmup"]) + repeats):
        begun = time.perf_counter()
        predictor.run()
        times.append((time.perf_counter() - begun) * 1000)
    output = predictor.get_output(0)
    if "output_data_path" in flags:
        written = "".join(f"{value:.6g}\n" for value in output.float_data())
        Path(flags["output_data_path"]).write_text(written)
    timed = times[-repeats:]
    figures = (init_ms, times[0], min(timed), max(timed), sum(timed) / repeats)
    text = report(figures=figures, shapes=(output.shape(),), head="", version=predictor.get_version())
    os.write(ANSWER, text.encode())


# The library prints on standard output, where the tool's report belongs alone.
ANSWER = os.dup(1)
os.dup2(2, 1)
ROOT = str(Path(__file__).resolve().parents[3])
if __name__ == "__main__":
    main()
