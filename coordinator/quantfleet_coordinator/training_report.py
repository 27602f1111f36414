"""How a job's trainings went, for its report. Not for training."""

from quantfleet_coordinator.jobs.entry import JobEntry
from quantfleet_domain.jobs.spec import ModelSpec, TrainingSpec
from quantfleet_domain.jobs.task_results import TrainResult
from quantfleet_domain.reporting.making import Training


def trainings(entry: JobEntry) -> tuple[Training, ...]:
    """Every training that came to a checkpoint, over all its intervals so far, in the job's order."""
    asked = [(model, training) for model in entry.spec.models for training in model.trainings]
    return tuple(found for model, training in asked if (found := _trained(entry, model, training)))


def _trained(entry: JobEntry, model: ModelSpec, training: TrainingSpec) -> Training | None:
    names = [f"{model.name}/train/{training.method}/{interval}" for interval in range(training.intervals)]
    done = [result for name in names if isinstance(result := entry.results.get(name), TrainResult)]
    if not done:
        return None
    last = done[-1]
    return Training(
        model=model.name,
        method=training.method,
        iterations=last.iterations,
        intervals=len(done),
        samples=training.data.samples,
        seconds=sum(result.seconds for result in done),
        best_iteration=last.best.iteration,
        metric=last.metric or None,
        best_value=last.best.value,
        losses={str(point.iteration): point.loss for result in done for point in result.losses},
        checkpoint_sha256=last.checkpoint.digest,
    )
