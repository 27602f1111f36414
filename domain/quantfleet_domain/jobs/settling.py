"""Settles what a job leaves to the fleet that it is submitted to: numbers of shards, and engines. Not a plan."""

from collections.abc import Callable, Collection
from dataclasses import replace

from quantfleet_domain.hardware.offers import ENGINES
from quantfleet_domain.jobs.spec import DataSet, JobSpec, ModelSpec, OutputKind, kind_of

SMALLEST_SHARD = 8
"""Samples below which another shard costs more (a process, a session) than it saves."""


def settled(spec: JobSpec, slots: int, engines: Callable[[str], Collection[str]]) -> JobSpec:
    """A job for a fleet with so many free slots; `engines` are those that its live devices of a pool (empty: any) have.

    A number of shards that is `auto` (0) becomes what the fleet can use at once; no result depends on the choice. Boxes
    are evaluated in one shard whatever the job says: mean average precision does not add up from parts. A target that
    names no engines gets those that read its model and that its pool has; while that has none yet, those of a CPU, or
    all where no CPU reads it.
    """
    return replace(spec, models=tuple(_settled(model, slots, engines) for model in spec.models))


def _settled(model: ModelSpec, slots: int, engines: Callable[[str], Collection[str]]) -> ModelSpec:
    def shards(asked: int, data: DataSet | None) -> int:
        samples = data.samples if data else 0
        return min(asked or max(1, min(slots, samples // SMALLEST_SHARD)), samples)

    calibration, evaluate = model.calibration, model.evaluate
    readers = [offer for offer in ENGINES.values() if model.format in offer.formats]

    def found(pool: str) -> tuple[str, ...]:
        there = engines(pool)
        on_cpus = [offer for offer in readers if offer.kind == "cpu"]
        chosen = [offer for offer in readers if offer.name in there] or on_cpus or readers
        return tuple(offer.name for offer in chosen)

    return replace(
        model,
        calibration=calibration and replace(calibration, shards=shards(calibration.shards, calibration.data)),
        evaluate=evaluate
        and replace(
            evaluate,
            shards=1 if kind_of(evaluate.metrics) is OutputKind.BOXES else shards(evaluate.shards, evaluate.data),
        ),
        targets=tuple(replace(target, engines=target.engines or found(target.pool)) for target in model.targets),
    )
