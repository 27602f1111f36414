"""The task `evaluate`: run samples of which the truth is known on the engine itself, and judge what it says."""

from quantfleet_domain.jobs.measured import EvaluateResult, Outcome
from quantfleet_domain.jobs.work import EvaluateWork
from quantfleet_worker.engines.base import LoadOptions, Session
from quantfleet_worker.engines.registry import engine_named
from quantfleet_worker.execution.child import Report
from quantfleet_worker.tasks.feeding import feeder, inputs_of
from quantfleet_worker.tasks.judging import judge
from quantfleet_worker.tasks.loading import load_variant, shapes_at
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.workspace import Workspace


def evaluate(work: EvaluateWork, workspace: Workspace, here: Surroundings, report: Report) -> EvaluateResult:
    """Raises SAMPLE_UNREADABLE, DATA_NOT_FOUND for a sample without truth, MODEL_UNREADABLE, MODEL_UNSUPPORTED for
    outputs that are not of the kind asked for, ENGINE_FAILED."""
    engine = engine_named(work.engine)
    options = LoadOptions(work.variant.precision, threads=1, shapes=shapes_at(work.input_shapes, 1))
    form, session = load_variant(engine, work.variant, options, workspace, here, work.form)
    return EvaluateResult(
        engine=engine.name,
        engine_version=engine.version(),
        precision=work.variant.precision,
        quantization=work.variant.quantization,
        form=form.form,
        first=work.data.first,
        outcome=outcome_of(work, session, workspace, report),
    )


def outcome_of(work: EvaluateWork, session: Session, workspace: Workspace, report: Report) -> Outcome:
    """Run the work's samples one by one, and judge. Raises as `evaluate`."""
    feed = feeder(workspace, inputs_of(session, work.input_shapes), work.preprocess)
    judged = judge(work.kind, work.annotations, workspace, feed)
    for done, (_, sample, content) in enumerate(workspace.samples(work.data)):
        report(done / work.data.count, f"sample {done + 1} of {work.data.count}")
        prepared = feed.prepare(content, sample.name)
        judged.add(sample, session.run(prepared.feeds), prepared.geometry)
    return judged.outcome()
