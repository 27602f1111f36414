"""From a job to its task graph. Pure: a plan is never stored, only what it is made of. Not for a task's work."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from quantfleet_domain.calibration.calibrators import AUTO
from quantfleet_domain.calibration.correction import CHECKPOINTS
from quantfleet_domain.hardware.offers import ENGINES
from quantfleet_domain.hardware.precisions import is_quantized
from quantfleet_domain.jobs.lifecycle import Task, TaskKind
from quantfleet_domain.jobs.spec import TRAINED, CalibrationSpec, JobSpec, ModelSpec
from quantfleet_domain.jobs.variants import VariantKey, asked_for, measurable, why_not

T = TypeVar("T")


@dataclass(frozen=True)
class Detail:
    """Which part of the job a task is: the fields that its kind does not use are empty or 0.

    A task is shard `shard` of `shards`; which samples that means may depend on results (see `assignment`). `stage` is
    of bias correction, or the interval of a training.
    """

    kind: TaskKind
    model: str = ""
    target: int = 0
    engine: str = ""
    runtime: str = ""
    precision: str = ""
    quantization: str = ""
    shard: int = 0
    shards: int = 0
    stage: int = 0


@dataclass(frozen=True)
class NotOffered:
    """A cell of the report that an engine does not offer for this model: not applicable, and no failure."""

    model: str
    engine: str
    precision: str
    quantization: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """The graph of a job: its tasks in an order in which needs come first, and what each is for."""

    tasks: tuple[Task, ...]
    details: Mapping[str, Detail]
    not_offered: tuple[NotOffered, ...]


CORRECTION_SAMPLES = 128
"""On how many samples biases are corrected: means over channels settle with far fewer than ranges do."""


def spread(samples: tuple[T, ...], most: int) -> tuple[T, ...]:
    """At most so many of the samples, evenly spaced: a manifest is often sorted by class."""
    count = min(most, len(samples))
    return tuple(samples[i * len(samples) // count] for i in range(count))


def shard_of(samples: int, shard: int, shards: int) -> tuple[int, int]:
    """Where shard 0 … shards − 1 of so many samples begins, and how many it has; sizes differ by one at most."""
    first = samples * shard // shards
    return first, samples * (shard + 1) // shards - first


def make_plan(spec: JobSpec) -> Plan:
    """The task graph of a job whose numbers of shards are settled."""
    drawing = _Drawing(spec)
    for model in spec.models:
        drawing.model(model)
    return drawing.plan()


class _Drawing:
    """A plan while it is made."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec
        self._tasks: list[Task] = []
        self._details: dict[str, Detail] = {}
        self._absent: list[NotOffered] = []

    def plan(self) -> Plan:
        everything = tuple(task.id for task in self._tasks)
        self._add("report", Detail(TaskKind.REPORT), after=everything)
        return Plan(tuple(self._tasks), self._details, tuple(self._absent))

    def model(self, model: ModelSpec) -> None:
        inspected = self._add(f"{model.name}/inspect", Detail(TaskKind.INSPECT, model.name))
        made: dict[tuple[str, str], str] = {}
        calibrated = self._calibration(model, inspected) if model.calibration else ()
        for index, target in enumerate(model.targets):
            for engine in target.engines:
                offer = ENGINES[engine]
                for key in asked_for(model, target.precisions):
                    reason = why_not(model, offer, key)
                    if reason:
                        self._absent.append(NotOffered(model.name, engine, key.precision, key.quantization, reason))
                keys = measurable(model, offer, target.precisions)
                base = Detail(TaskKind.BENCHMARK, model.name, index, engine, offer.runtime)
                own: dict[str, str] = {}
                if any(key.quantization == "native" for key in keys):
                    own["native"] = self._native(base, inspected)
                for key in keys:
                    place = (offer.runtime, key.quantization)
                    if place not in made and (task := self._quantization(model, place, inspected, calibrated)):
                        made[place] = task
                made_here = {key: made.get((offer.runtime, key.quantization), "") for key in keys}
                self._measurement(model, base, {k: own.get(k.quantization, task) for k, task in made_here.items()})

    def _native(self, base: Detail, inspected: str) -> str:
        """The task in which an engine finds ranges by its own calibrator, on the device that is measured."""
        detail = replace(base, kind=TaskKind.QUANTIZE, quantization="native")
        return self._add(native_task(detail), detail, (inspected,))

    def _quantization(
        self, model: ModelSpec, place: tuple[str, str], inspected: str, calibrated: tuple[str, ...]
    ) -> str:
        """The task that makes the quantized model of a runtime; empty where there is nothing to make."""
        runtime, quantization = place
        detail = Detail(TaskKind.QUANTIZE, model.name, runtime=runtime, quantization=quantization)
        match quantization:
            case "static":
                return self._add(f"{model.name}/quantize/{runtime}", detail, calibrated or (inspected,))
            case "dynamic":
                return self._add(f"{model.name}/quantize/{runtime}/dynamic", detail, (inspected,))
            case _ if quantization in TRAINED:
                last = ""
                for interval in range(model.training(quantization).intervals):
                    stage = Detail(TaskKind.TRAIN, model.name, quantization=quantization, stage=interval)
                    name, needs = f"{model.name}/train/{quantization}/{interval}", (inspected, last)
                    if name not in self._details:  # it serves every runtime
                        self._add(name, stage, needs if last else needs[:1])
                    last = name
                return last
        return ""

    def _calibration(self, model: ModelSpec, inspected: str) -> tuple[str, ...]:
        """The tasks up to the scale table and the corrections; returns what quantizing needs."""
        assert model.calibration is not None
        name, calibration = model.name, model.calibration
        table = () if calibration.scales else (self._table(model, calibration, inspected),)
        needs: tuple[str, ...] = (inspected, *table)
        if corrected_runtimes(model):
            # What is excluded is found at stage 0.
            for stage in range(CHECKPOINTS + 1 if calibration.bias_correction else 1):
                kind = Detail(TaskKind.CORRECT, name, stage=stage)
                most = min(calibration.shards, CORRECTION_SAMPLES)
                parts = self._shards(f"{name}/correct/{stage}", kind, most, needs[-1])
                settled = Detail(TaskKind.SETTLE, name, stage=stage)
                needs = (inspected, *table, self._add(f"{name}/settle/{stage}", settled, (*needs, *parts)))
        return needs

    def _table(self, model: ModelSpec, calibration: CalibrationSpec, inspected: str) -> str:
        """The tasks that make the scale table; returns the last."""
        name = model.name
        twin = next((m for m in self._spec.models if m is not model and _same_source(m, model)), None)
        # A model that is calibrated twice in a job, by two calibrators, is run once: the second waits for the first.
        first = f"{twin.name}/merge" if twin and f"{twin.name}/merge" in self._details else ""
        recalled = self._add(f"{name}/recall", Detail(TaskKind.RECALL, name), (inspected,), (first,) if first else ())
        shards = self._shards(f"{name}/calibrate", Detail(TaskKind.CALIBRATE, name), calibration.shards, recalled)
        table = self._add(f"{name}/merge", Detail(TaskKind.MERGE, name), (inspected, recalled, *shards))
        if calibration.calibrator == AUTO:
            scored = self._shards(f"{name}/score", Detail(TaskKind.SCORE, name), calibration.shards, table)
            table = self._add(f"{name}/choose", Detail(TaskKind.CHOOSE, name), (inspected, table, *scored))
        return table

    def _shards(self, prefix: str, detail: Detail, shards: int, needed: str) -> tuple[str, ...]:
        needs = tuple(dict.fromkeys((f"{detail.model}/inspect", needed)))
        return tuple(self._add(f"{prefix}/{i}", replace(detail, shard=i, shards=shards), needs) for i in range(shards))

    def _measurement(self, model: ModelSpec, base: Detail, made: Mapping[VariantKey, str]) -> None:
        """The measurement of these variants, each with the task that makes it (empty: none need be)."""
        inspected, place = f"{model.name}/inspect", f"{base.target}/{base.engine}"
        makers = tuple(dict.fromkeys(task for task in made.values() if task))
        if self._spec.benchmark.modes and made:
            # One quantization that fails must not take the others along; a single one is what the job is about.
            several = len({key.quantization for key in made if is_quantized(key.precision)}) > 1
            needs, after = ((inspected,), makers) if several else ((inspected, *makers), ())
            self._add(f"{model.name}/benchmark/{place}", base, needs, after)
        if not model.evaluate:
            return
        for key, task in made.items():
            evaluated = replace(
                base,
                kind=TaskKind.EVALUATE,
                precision=key.precision,
                quantization=key.quantization,
                shards=model.evaluate.shards,
            )
            for i in range(model.evaluate.shards):
                needs = (inspected, task) if task else (inspected,)
                self._add(f"{model.name}/evaluate/{place}/{key.name}/{i}", replace(evaluated, shard=i), needs)

    def _add(self, name: str, detail: Detail, needs: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> str:
        self._tasks.append(Task(id=name, kind=detail.kind, needs=needs, after=after))
        self._details[name] = detail
        return name


def native_task(detail: Detail) -> str:
    """The name of the task that finds an engine's own ranges, for a detail of that engine and target."""
    return f"{detail.model}/quantize/{detail.target}/{detail.engine}/native"


def corrected_runtimes(model: ModelSpec) -> tuple[str, ...]:
    """The runtimes whose INT8 forms get corrected biases, sorted; none where the job wants it not or has no samples."""
    if (
        model.calibration is None
        or model.calibration.data is None
        or not (model.calibration.bias_correction or model.calibration.exclude_below_db is not None)
    ):
        return ()
    return runtimes_of(model, "static")


def runtimes_of(model: ModelSpec, quantization: str) -> tuple[str, ...]:
    """The runtimes for which a job needs the model quantized in this way, sorted."""
    wanted = [(ENGINES[engine], target.precisions) for target in model.targets for engine in target.engines]
    keys = [(offer, key) for offer, precisions in wanted for key in measurable(model, offer, precisions)]
    return tuple(sorted({offer.runtime for offer, key in keys if key.quantization == quantization}))


def _same_source(one: ModelSpec, other: ModelSpec) -> bool:
    made = [model.calibration for model in (one, other) if model.calibration and not model.calibration.scales]
    return (len(made) == 2 and made[1].reuse) and (
        (one.format, one.files, one.input_shapes, one.preprocess)
        == (other.format, other.files, other.input_shapes, other.preprocess)
    )
