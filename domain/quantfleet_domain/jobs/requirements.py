"""What a device must have to be given a task. Not for which of several devices gets it (see `placement`)."""

from collections.abc import Mapping
from dataclasses import dataclass

from quantfleet_domain.calibration.graph import NumericsClass
from quantfleet_domain.hardware.offers import ENGINES, REFERENCE_ENGINE
from quantfleet_domain.jobs.lifecycle import TaskKind
from quantfleet_domain.jobs.made import model_of, numerics_of
from quantfleet_domain.jobs.plan import Detail
from quantfleet_domain.jobs.spec import JobSpec
from quantfleet_domain.jobs.task_results import Result

DISTILLERS = ("paddleslim",)
"""The packages that a distillation needs besides Paddle."""


@dataclass(frozen=True)
class Requirement:
    """What a device must have to be given a task. `cores`: how many a benchmark pins; `numerics`: a class; `software`:
    packages besides the engines; `code`: a user's package that the node's owner must have allowed."""

    engines: tuple[str, ...]
    pool: str
    exclusive: bool
    cores: int
    numerics: NumericsClass | None
    software: tuple[str, ...] = ()
    code: str = ""


def requirement(spec: JobSpec, detail: Detail, results: Mapping[str, Result]) -> Requirement:
    """What a device needs for this task, given the results of the tasks that it needs."""
    model = model_of(spec, detail)
    match detail.kind:
        case TaskKind.CALIBRATE | TaskKind.SCORE | TaskKind.CORRECT:
            return Requirement((REFERENCE_ENGINE,), "", False, 1, numerics_of(model, results))
        case TaskKind.BENCHMARK:
            target = model.targets[detail.target]
            # One core feeds a GPU, whatever a target asks for its other engines: cells of more threads are absent.
            cores = 1 if ENGINES[detail.engine].kind == "cuda" else max(target.threads)
            return Requirement((detail.engine,), target.pool, True, cores, None)
        case TaskKind.EVALUATE:
            return Requirement((detail.engine,), model.targets[detail.target].pool, False, 1, None)
        case TaskKind.TRAIN:
            package = model.training(detail.quantization).package
            software = () if package else DISTILLERS
            return Requirement((REFERENCE_ENGINE, "paddle-cpu"), "", False, 1, None, software, package)
        case TaskKind.QUANTIZE if detail.quantization == "native":
            return Requirement((detail.engine,), model.targets[detail.target].pool, False, 1, None)
        case TaskKind.QUANTIZE if detail.runtime.startswith("paddle"):
            return Requirement(("paddle-cpu",), "", False, 1, None)
        case TaskKind.INSPECT if model.format == "paddle":
            return Requirement((REFERENCE_ENGINE, "paddle-cpu"), "", False, 1, None)
        case _:
            return Requirement((REFERENCE_ENGINE,), "", False, 1, None)
