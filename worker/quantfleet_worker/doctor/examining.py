"""Examines one engine in one precision, in a child process of its own: it may crash. Not for where that runs."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from quantfleet_domain.errors import QuantfleetError
from quantfleet_domain.jobs.spec import InputShape
from quantfleet_worker.doctor.contract import CHECKS, BrokenError, Subject, words
from quantfleet_worker.doctor.networks import INPUT, SHAPE
from quantfleet_worker.doctor.specimens import Specimens
from quantfleet_worker.engines.base import LoadOptions, Session
from quantfleet_worker.engines.registry import engine_named
from quantfleet_worker.execution.child import Report
from quantfleet_worker.tasks.loading import load_variant, shapes_at
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.workspace import Workspace

HANDLER = "quantfleet_worker.doctor.examining:examine"


def examine(request: bytes, report: Report) -> bytes:
    """The handler of a child process. Returns JSON: `passed`, and the `finding` in words."""
    asked: dict[str, Any] = json.loads(request)
    fields: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in asked["here"].items()}
    here = Surroundings(**fields)
    specimens = Specimens.from_json(json.dumps(asked["specimens"]).encode())
    workspace = Workspace(Path(here.cache), Path(here.outputs), Path(asked["scratch"]))
    engine = engine_named(asked["engine"])
    engine.start()

    def load(precision: str, options: LoadOptions) -> Session:
        shapes = shapes_at([InputShape(INPUT, SHAPE)], options.batch)
        variant = specimens.variant(precision, engine.runtime)
        return load_variant(engine, variant, replace(options, shapes=shapes), workspace, here)[1]

    def stored(ref: Any) -> Any:
        return np.load(BytesIO(workspace.read(ref)))

    subject = Subject(
        engine=engine,
        precision=asked["precision"],
        load=load,
        sample=stored(specimens.sample),
        reference=stored(specimens.reference),
        unreadable=_unreadable(engine.runtime, Path(asked["scratch"])),
        threads=len(here.cores),
    )
    findings = []
    for done, check in enumerate(CHECKS):
        report(done / len(CHECKS), words(check))
        try:
            findings.append(check(subject))
        except BrokenError as error:
            return _answer(passed=False, finding=f"not so: {words(check)}: {error}")
        except QuantfleetError as error:
            return _answer(passed=False, finding=f"{error.what} ({error.todo})")
    return _answer(passed=True, finding="; ".join(finding for finding in findings if finding))


def _unreadable(runtime: str, scratch: Path) -> Path:
    """What is no model of a runtime: a file for those that read `.onnx`, a directory for Paddle's."""
    if not runtime.startswith("paddle"):
        path = scratch / "unreadable.onnx"
        path.write_bytes(b"this is no model")
        return path
    directory = scratch / "unreadable"
    directory.mkdir(exist_ok=True)
    for suffix in (".pdmodel", ".pdiparams"):
        (directory / f"model{suffix}").write_bytes(b"this is no model")
    return directory


def _answer(*, passed: bool, finding: str) -> bytes:
    return json.dumps({"passed": passed, "finding": finding}).encode()
