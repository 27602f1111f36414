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

IMAGES = 1000
_ROUNDS = 3


def measure(model: Path | None, input_name: str, arrays: list[Array]) -> dict[str, Any]:
    """Seconds with one process and with two, each on a core of its own with half of the samples; the median of rounds.

    From the moment that all are set up until the scale table of all samples is there; merging is part of it.
    `core_share` is the smallest part of their cores that the processes of a run had: below 1 where other programs ran,
    and then the speed-up is not worth much.
    """
    cores = sorted(os.sched_getaffinity(0))
    if model is None or len(cores) < 2:
        return {"failed": "two cores are needed"}
    ratios, alone, shares = [], [], []
    for _ in range(_ROUNDS):
        one, one_share = _run(model, input_name, arrays, cores[:1])
        two, two_share = _run(model, input_name, arrays, cores[:2])
        ratios.append(one / two)
        alone.append(one)
        shares += [one_share, two_share]
    row = {
        "seconds": round(statistics.median(alone), 3),
        "speedup": round(statistics.median(ratios), 3),
        "speedups": [round(ratio, 3) for ratio in ratios],
        "core_share": round(min(shares), 3),
    }
    print(f"two processes against one: {row}", flush=True)
    return row


def _run(model: Path, input_name: str, arrays: list[Array], cores: list[int]) -> tuple[float, float]:
    """Seconds, and the part of its core that the process with the smallest one had."""
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
    share = min(float(pipe.recv()) for pipe in pipes)
    for child in children:
        child.join()
    return seconds, share


def _shard(
    pipe: Any, start: Barrier, core: int, model: Path, input_name: str, arrays: list[Array], part: range
) -> None:
    os.sched_setaffinity(0, {core})
    from bench import our_calibration

    with tempfile.TemporaryDirectory(prefix="quantfleet-bench-") as folder:
        calibration = our_calibration.Calibration(model, input_name, arrays[0].shape, Path(folder))
        samples = [arrays[index % len(arrays)] for index in part]
        start.wait()
        clock, spent = time.monotonic(), time.process_time()
        shard = calibration.observe(samples, part.start)
        share = (time.process_time() - spent) / (time.monotonic() - clock)
        pipe.send_bytes(shard)
        pipe.send(share)
