"""The task `correct`: observe the mean outputs that a stage of bias correction needs, on a slice of the data."""

import time

import onnx

from quantfleet_domain.calibration.correction import Corrections
from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.jobs.task_results import SumsResult
from quantfleet_domain.jobs.work import CorrectWork
from quantfleet_worker.execution.child import Report
from quantfleet_worker.models.simulated_run import SimulatedRun, first_stage, later_stage
from quantfleet_worker.quantizers.simulation import forms_of
from quantfleet_worker.tasks.feeding import feeder
from quantfleet_worker.tasks.numerics_class import check_numerics
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.summing import add_up, subject
from quantfleet_worker.tasks.workspace import Workspace


def correct(work: CorrectWork, workspace: Workspace, here: Surroundings, report: Report) -> SumsResult:
    """Raises SCALES_INVALID; SAMPLE_UNREADABLE, SAMPLE_NOT_FINITE, PREPROCESS_INVALID; NUMERICS_MISMATCH on another
    kind of node."""
    started = time.monotonic()
    check_numerics(work.numerics, work.preprocess, here)
    if not work.data.count:
        return SumsResult(None, 0, time.monotonic() - started)
    graph = CalibrationGraph.from_json(workspace.read(work.graph))
    feed = feeder(workspace, graph.inputs, work.preprocess)
    of = subject(
        {
            "reference": work.reference.digest,
            "scales": work.scales.digest,
            "corrections": work.corrections.digest if work.corrections else None,
            "forms": list(forms_of(work.runtimes)),
            "stage": work.stage,
        }
    )
    sums = add_up(_run(work, workspace, graph), work, of, feed, workspace, report)
    return SumsResult(workspace.keep("sums.json", sums.to_json()), work.data.count, time.monotonic() - started)


def _run(work: CorrectWork, workspace: Workspace, graph: CalibrationGraph) -> SimulatedRun:
    reference = onnx.load_from_string(workspace.read(work.reference))
    table = ScaleTable.from_json(workspace.read(work.scales))
    forms = forms_of(work.runtimes)
    if work.corrections is None:
        return first_stage(reference, graph, table, forms)
    corrections = Corrections.from_json(workspace.read(work.corrections))
    return later_stage(reference, graph, table, forms, corrections, work.stage)
