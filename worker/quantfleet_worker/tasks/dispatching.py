"""The handler of a task's child process: unpack the request, do the work, pack the result."""

import tempfile
from pathlib import Path
from typing import assert_never

from quantfleet_domain.jobs.task_results import Result
from quantfleet_domain.jobs.work import (
    BenchmarkWork,
    CalibrateWork,
    CorrectWork,
    EvaluateWork,
    InspectWork,
    NativeWork,
    QuantizeWork,
    ScoreWork,
    TrainWork,
    Work,
)
from quantfleet_protos.v1 import task_pb2
from quantfleet_wire.codec import encode
from quantfleet_worker.engines.paddle_lite import ABI_OF_ENGINE
from quantfleet_worker.execution.child import Report
from quantfleet_worker.tasks.request import Surroundings, unpack
from quantfleet_worker.tasks.workspace import Workspace


def dispatch(request: bytes, report: Report) -> bytes:
    """Do the work of a request (see `request.pack`); returns a serialised quantfleet.v1.Result."""
    here, work = unpack(request)
    with tempfile.TemporaryDirectory(dir=here.outputs) as scratch:
        workspace = Workspace(Path(here.cache), Path(here.outputs), Path(scratch))
        result = _do(work, workspace, here, report)
    return encode(result, task_pb2.Result).SerializeToString(deterministic=True)


def _do(work: Work, workspace: Workspace, here: Surroundings, report: Report) -> Result:
    # Each task imports its engine only when it is that task: importing one costs seconds, and a node may lack it.
    match work:
        case InspectWork():
            from quantfleet_worker.tasks.inspecting import inspect

            return inspect(work, workspace, here, report)
        case CalibrateWork():
            from quantfleet_worker.tasks.calibrating import calibrate

            return calibrate(work, workspace, here, report)
        case ScoreWork():
            from quantfleet_worker.tasks.scoring import score

            return score(work, workspace, here, report)
        case CorrectWork():
            from quantfleet_worker.tasks.correcting import correct

            return correct(work, workspace, here, report)
        case TrainWork():
            from quantfleet_worker.tasks.training import train

            return train(work, workspace, here, report)
        case QuantizeWork():
            from quantfleet_worker.tasks.quantizing import quantize

            return quantize(work, workspace, here, report)
        case NativeWork():
            from quantfleet_worker.tasks.native_calibrating import calibrate_natively

            return calibrate_natively(work, workspace, here, report)
        case BenchmarkWork() | EvaluateWork() if work.engine in ABI_OF_ENGINE:
            from quantfleet_worker.tasks.phoning import on_phone

            return on_phone(work, workspace, here, report)
        case BenchmarkWork():
            from quantfleet_worker.tasks.benchmarking import benchmark

            return benchmark(work, workspace, here, report)
        case EvaluateWork():
            from quantfleet_worker.tasks.evaluating import evaluate

            return evaluate(work, workspace, here, report)
        case _:
            assert_never(work)
