"""The task `score`: run the network with each candidate scale table, simulated, against FP32, on a slice of data."""

import time

import onnx

from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.jobs.task_results import SumsResult
from quantfleet_domain.jobs.work import ScoreWork
from quantfleet_worker.execution.child import Report
from quantfleet_worker.models.simulated_run import candidates
from quantfleet_worker.tasks.feeding import feeder
from quantfleet_worker.tasks.numerics_class import check_numerics
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.summing import add_up, subject
from quantfleet_worker.tasks.workspace import Workspace


def score(work: ScoreWork, workspace: Workspace, here: Surroundings, report: Report) -> SumsResult:
    """Raises SCALES_INVALID; SAMPLE_UNREADABLE, SAMPLE_NOT_FINITE, PREPROCESS_INVALID; NUMERICS_MISMATCH on another
    kind of node."""
    started = time.monotonic()
    check_numerics(work.numerics, work.preprocess, here)
    if not work.data.count:
        return SumsResult(None, 0, time.monotonic() - started)
    graph = CalibrationGraph.from_json(workspace.read(work.graph))
    feed = feeder(workspace, graph.inputs, work.preprocess)
    of = subject({"reference": work.reference.digest, "candidates": [item.digest for item in work.candidates]})
    reference = onnx.load_from_string(workspace.read(work.reference))
    tables = [ScaleTable.from_json(workspace.read(item)) for item in work.candidates]
    sums = add_up(candidates(reference, graph, tables), work, of, feed, workspace, report)
    return SumsResult(workspace.keep("sums.json", sums.to_json()), work.data.count, time.monotonic() - started)
