"""Adds the quantities of a simulated run up over a slice of the data. Not for what is simulated."""

import hashlib
from collections.abc import Mapping

from quantfleet_domain.calibration.canonical import canonical_json
from quantfleet_domain.calibration.sums import Sums, SumsAccumulator
from quantfleet_domain.jobs.work import CorrectWork, ScoreWork
from quantfleet_worker.execution.child import Report
from quantfleet_worker.models.simulated_run import SimulatedRun
from quantfleet_worker.tasks.feeding import Feeder
from quantfleet_worker.tasks.workspace import Workspace

_REVISION = 1  # counts up whenever what is simulated, or the units, change


def subject(described: Mapping[str, object]) -> str:
    """The SHA-256 of what decides the sums, besides the samples and the numerics class."""
    return hashlib.sha256(canonical_json({"simulation": _REVISION, **described})).hexdigest()


def add_up(
    run: SimulatedRun, work: ScoreWork | CorrectWork, of: str, feed: Feeder, workspace: Workspace, report: Report
) -> Sums:
    """The sums of a subject over the slice of the work; where the run has no quantities, its samples are not read.

    Raises SAMPLE_UNREADABLE, SAMPLE_NOT_FINITE, ENGINE_FAILED.
    """
    added = SumsAccumulator(work.numerics, of, run.exponents)
    if not run.exponents:
        for index in range(work.data.first, work.data.first + work.data.count):
            added.add(index, str(index), {})
        return added.sums()
    for done, (index, sample, feeds) in enumerate(feed.feeds(workspace, work.data)):
        report(done / work.data.count, f"sample {done + 1} of {work.data.count}")
        added.add(index, sample.name, run.quantities(feeds))
    return added.sums()
