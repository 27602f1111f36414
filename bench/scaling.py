"""How much sooner two processes have counted the same samples than one, by the clock. Not for the cost of one."""

import multiprocessing
import os
import statistics
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from bench.cases import Array

IMAGES = 200
_ROUNDS = 3


def measure(model: Path | None, input_name: str, arrays: list[Array]) -> dict[str, Any]:
    """Seconds with one process and with two, each on a core of its own with half of the samples; the median of rounds.

    From the moment that all are set up until the scale table of all samples is there; merging is part of it.
    """
    cores = sorted(os.sched_getaffinity(0))
    if model is None or len(cores) < 2:
        return {"failed": "two cores are needed"}
    ratios, alone = [], []
    for _ in range(_ROUNDS):
        one = _run(model, input_name, arrays, cores[:1])
        two = _run(model, input_name, arrays, cores[:2])
        ratios.append(one / two)
        alone.append(one)
    row = {"seconds": round(statistics.median(alone), 3), "speedup": round(statistics.median(ratios), 3)}
    print(f"{model.parent.name} two processes: {ratios}", flush=True)
    return {**row, "speedups": [round(ratio, 3) for ratio in ratios]}


def _run(model: Path, input_name: str, arrays: list[Array], cores: list[int]) -> float:
    from bench import our_calibration

    context = multiprocessing.get_context("spawn")
    start = context.Barrier(len(cores) + 1)
    pipes, children = [], []
    for number, core in enumerate(cores):
        here, there = context.Pipe(duplex=False)
        part = range(IMAGES * number // len(cores), IMAGES * (number + 1) // len(cores))
        child = context.Process(target=_shard, args=(there, start, core, model, input_name, arrays, part))
        child.start()
        pipes.append(here)
        children.append(child)
    with tempfile.TemporaryDirectory(prefix="quantfleet-bench-") as folder:
        merging = our_calibration.Calibration(model, input_name, arrays[0].shape, Path(folder))
        start.wait()
        started = time.monotonic()
        merging.table([pipe.recv_bytes() for pipe in pipes], "absmax")
        seconds = time.monotonic() - started
    for child in children:
        child.join()
    return seconds


def _shard(
    pipe: Any, start: Barrier, core: int, model: Path, input_name: str, arrays: list[Array], part: range
) -> None:
    os.sched_setaffinity(0, {core})
    from bench import our_calibration

    with tempfile.TemporaryDirectory(prefix="quantfleet-bench-") as folder:
        calibration = our_calibration.Calibration(model, input_name, arrays[0].shape, Path(folder))
        samples = [arrays[index % len(arrays)] for index in part]
        start.wait()
        pipe.send_bytes(calibration.observe(samples, part.start))
