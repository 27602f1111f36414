"""The task `calibrate`: run a slice of the data through the instrumented reference graph, and count."""

import itertools
import time

from quantfleet_domain.calibration.auto import part_of
from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.jobs.manifest import Sample
from quantfleet_domain.jobs.task_results import CalibrateResult
from quantfleet_domain.jobs.work import CalibrateWork
from quantfleet_worker.collecting.choice import collector
from quantfleet_worker.execution.child import Report
from quantfleet_worker.tasks.feeding import feeder
from quantfleet_worker.tasks.numerics_class import check_numerics
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.workspace import Workspace


def calibrate(work: CalibrateWork, workspace: Workspace, here: Surroundings, report: Report) -> CalibrateResult:
    """Raises SAMPLE_UNREADABLE, SAMPLE_NOT_FINITE, PREPROCESS_INVALID; NUMERICS_MISMATCH on another kind of node."""
    started = time.monotonic()
    check_numerics(work.numerics, work.preprocess, here)
    graph = CalibrationGraph.from_json(workspace.read(work.graph))
    feed = feeder(workspace, graph.inputs, work.preprocess)
    counted = collector(workspace.bundle("reference", [work.reference]) / work.reference.name, graph, work.numerics)
    partials, kept = [], counted.partial()
    samples = feed.feeds(workspace, work.data, _part)
    for _, part in itertools.groupby(enumerate(samples), lambda item: _part(item[1][1])):
        for done, (index, sample, feeds) in part:
            report(done / work.data.count, f"sample {done + 1} of {work.data.count}")
            counted.observe(index, sample.name, feeds)
        whole = counted.partial()
        partials.append(workspace.keep("partial.bin", whole.without(kept).encode()))
        kept = whole
    return CalibrateResult(tuple(partials), work.data.count, time.monotonic() - started, counted.name)


def _part(sample: Sample) -> int:
    """The part for which a sample may be held back; each gets a partial of its own."""
    return part_of(sample.digest)
