"""Examines one engine in one precision, in a child process of its own: it may crash. Not for where that runs."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from quantfleet_domain.errors import QuantfleetError
from quantfleet_domain.jobs.spec import InputShape
from quantfleet_domain.jobs.work import Variant
from quantfleet_worker.doctor.contract import CHECKS, ON_PHONES, BrokenError, Load, Subject, words
from quantfleet_worker.doctor.networks import INPUT, SHAPE
from quantfleet_worker.doctor.specimens import Specimens
from quantfleet_worker.engines.base import Engine, LoadOptions, Session
from quantfleet_worker.engines.registry import engine_named
from quantfleet_worker.execution.child import Report
from quantfleet_worker.tasks.loading import load_variant, shapes_at
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.workspace import Workspace

HANDLER = "quantfleet_worker.doctor.examining:examine"
_NAME = "doctor"


def examine(request: bytes, report: Report) -> bytes:
    """The handler of a child process. Returns JSON: `passed`, and the `finding` in words."""
    asked: dict[str, Any] = json.loads(request)
    fields: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in asked["here"].items()}
    here = Surroundings(**fields)
    specimens = Specimens.from_json(json.dumps(asked["specimens"]).encode())
    workspace = Workspace(Path(here.cache), Path(here.outputs), Path(asked["scratch"]))
    engine = engine_named(asked["engine"])
    engine.start()
    variant = specimens.variant(asked["precision"], engine.runtime)

    def stored(ref: Any) -> Any:
        return np.load(BytesIO(workspace.read(ref)))

    loaded = _on_phone if engine.kind == "arm" else _here
    try:
        with loaded(engine, variant, workspace, here) as load:
            subject = Subject(
                engine=engine,
                precision=asked["precision"],
                load=load,
                sample=stored(specimens.sample),
                reference=stored(specimens.reference),
                unreadable=_unreadable(engine.runtime, Path(asked["scratch"])),
                threads=len(here.cores),
            )
            return _checked(subject, ON_PHONES if engine.kind == "arm" else CHECKS, report)
    except QuantfleetError as error:
        return _answer(passed=False, finding=f"{error.what} ({error.todo})")


def _checked(subject: Subject, checks: Sequence[Callable[[Subject], str]], report: Report) -> bytes:
    findings = []
    for done, check in enumerate(checks):
        report(done / len(checks), words(check))
        try:
            findings.append(check(subject))
        except BrokenError as error:
            return _answer(passed=False, finding=f"not so: {words(check)}: {error}")
    return _answer(passed=True, finding="; ".join(finding for finding in findings if finding))


@contextmanager
def _here(engine: Engine, variant: Variant, workspace: Workspace, here: Surroundings) -> Iterator[Load]:
    """Loads a variant in this process."""

    def load(options: LoadOptions) -> Session:
        shapes = shapes_at([InputShape(INPUT, SHAPE)], options.batch)
        return load_variant(engine, variant, replace(options, shapes=shapes), workspace, here)[1]

    yield load


@contextmanager
def _on_phone(engine: Engine, variant: Variant, workspace: Workspace, here: Surroundings) -> Iterator[Load]:
    """Loads a variant on the phone that the device's name means."""
    from quantfleet_worker.engines.paddle_lite import ABI_OF_ENGINE
    from quantfleet_worker.phones.phone import phone_of
    from quantfleet_worker.phones.session import PhoneSession
    from quantfleet_worker.tasks.phone_models import carry, lite_model

    phone = phone_of(here.phones, here.device, ABI_OF_ENGINE[engine.name])
    model = lite_model(engine, variant, phone, workspace, here)
    with phone.transport.workdir() as directory:
        carried = carry(phone, directory, {_NAME: model})[_NAME]
        yield lambda options: PhoneSession(carried, options.threads, _NAME)


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
