"""The peak memory of a variant: of a process that does nothing but load it and run it. Not for timing."""

import json
from pathlib import Path

import numpy as np

from quantfleet_worker.engines.base import LoadOptions
from quantfleet_worker.engines.registry import engine_named
from quantfleet_worker.execution.child import Report
from quantfleet_worker.execution.outcome import Result
from quantfleet_worker.execution.spec import RunSpec
from quantfleet_worker.execution.supervisor import ChildRun
from quantfleet_worker.tasks.contenders import Contender

RUNS = 10
_HANDLER = "quantfleet_worker.tasks.memory:run_only"


def peak_memory_mb(
    engine: str, model: Path, contender: Contender, options: LoadOptions, cores: tuple[int, ...], scratch: Path
) -> float | None:
    """Load and run a variant in a child process of its own; its peak resident memory, MiB. None where it failed.

    `scratch` is a path for the batch that it is fed.
    """
    np.savez(scratch, *contender.feeds.values())
    request = {
        "engine": engine,
        "model": str(model),
        "inputs": list(contender.feeds),
        "feeds": f"{scratch}.npz",
        "precision": options.precision,
        "threads": options.threads,
        "batch": options.batch,
        "form": options.form,
        "shapes": options.shapes,
        "kept": None if options.kept is None else str(options.kept),
    }
    outcome = ChildRun(RunSpec(cores, options.threads, _HANDLER)).run(json.dumps(request).encode())
    peak = outcome.usage.peak_rss_bytes if isinstance(outcome, Result) else None
    return None if peak is None else peak / 2**20


def run_only(request: bytes, report: Report) -> bytes:
    """The handler of that child process."""
    asked = json.loads(request)
    report(0.0, "measuring memory")
    options = LoadOptions(
        asked["precision"],
        asked["threads"],
        asked["batch"],
        asked["form"],
        tuple((name, tuple(shape)) for name, shape in asked["shapes"]),
        None if asked["kept"] is None else Path(asked["kept"]),
    )
    session = engine_named(asked["engine"]).load(Path(asked["model"]), options)
    with np.load(asked["feeds"]) as feeds:
        session.bind({name: feeds[key] for name, key in zip(asked["inputs"], feeds.files, strict=True)})
    for _ in range(RUNS):
        session.run_bound()
    return b""
