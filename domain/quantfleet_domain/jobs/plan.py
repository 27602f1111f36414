"""From a job to its task graph. Pure: a plan is never stored, only what it is made of. Not for a task's work."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from quantfleet_domain.calibration.calibrators import AUTO
from quantfleet_domain.calibration.correction import CHECKPOINTS
from quantfleet_domain.hardware.offers import ENGINES
from quantfleet_domain.jobs.lifecycle import Task, TaskKind
from quantfleet_domain.jobs.spec import JobSpec, ModelSpec, OutputKind, kind_of

SMALLEST_SHARD = 8
"""Samples below which another shard costs more (a process, a session) than it saves."""


@dataclass(frozen=True)
class Detail:
    """Which part of the job a task is: the fields that its kind does not use are empty or 0.

    A task is shard `shard` of `shards`; which samples that means may depend on results (see `assignment`). `stage` is
    of bias correction.
    """

    kind: TaskKind
    model: str = ""
    target: int = 0
    engine: str = ""
    runtime: str = ""
    precision: str = ""
    shard: int = 0
    shards: int = 0
    stage: int = 0


@dataclass(frozen=True)
class NotOffered:
    """A cell of the report that an engine does not offer for this model: not applicable, and no failure."""

    model: str
    engine: str
    precision: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """The graph of a job: its tasks in an order in which needs come first, and what each is for."""

    tasks: tuple[Task, ...]
    details: Mapping[str, Detail]
    not_offered: tuple[NotOffered, ...]


def with_shards(spec: JobSpec, slots: int) -> JobSpec:
    """Settle every `auto` (0) number of shards for a fleet with so many free slots; no result depends on the choice.

    Boxes are evaluated in one shard whatever the job says: mean average precision does not add up from parts.
    """

    def settle(shards: int, samples: int) -> int:
        wanted = shards or max(1, min(slots, samples // SMALLEST_SHARD))
        return min(wanted, samples)

    models = tuple(
        replace(
            model,
            calibration=model.calibration
            and replace(model.calibration, shards=settle(model.calibration.shards, model.calibration.data.samples)),
            evaluate=model.evaluate
            and replace(
                model.evaluate,
                shards=1
                if kind_of(model.evaluate.metrics) is OutputKind.BOXES
                else settle(model.evaluate.shards, model.evaluate.data.samples),
            ),
        )
        for model in spec.models
    )
    return replace(spec, models=models)


CORRECTION_SAMPLES = 128
"""On how many samples biases are corrected: means over channels settle with far fewer than ranges do."""


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
        calibrated = self._calibration(model, inspected) if model.calibration else (inspected,)
        quantized: dict[str, str] = {}
        for index, target in enumerate(model.targets):
            for engine in target.engines:
                offer = ENGINES[engine]
                if model.format not in offer.formats:
                    reason = f"{engine} does not read {model.format} models"
                    self._absent.extend(NotOffered(model.name, engine, p, reason) for p in target.precisions)
                    continue
                needs: tuple[str, ...] = (inspected,)
                if "int8" in target.precisions and not model.calibration:
                    self._absent.append(NotOffered(model.name, engine, "int8", "the job brings no calibration data"))
                if "int8" in measurable(model, target.precisions):
                    if offer.runtime not in quantized:
                        quantized[offer.runtime] = self._add(
                            f"{model.name}/quantize/{offer.runtime}",
                            Detail(TaskKind.QUANTIZE, model.name, runtime=offer.runtime),
                            calibrated,
                        )
                    needs = (inspected, quantized[offer.runtime])
                self._measurement(model, Detail(TaskKind.BENCHMARK, model.name, index, engine, offer.runtime), needs)

    def _calibration(self, model: ModelSpec, inspected: str) -> tuple[str, ...]:
        """The tasks up to the scale table and the corrections; returns what quantizing needs."""
        assert model.calibration is not None
        name, calibration = model.name, model.calibration
        twin = next((m for m in self._spec.models if m is not model and _same_source(m, model)), None)
        # A model that is calibrated twice in a job, by two calibrators, is run once: the second waits for the first.
        first = f"{twin.name}/merge" if twin and f"{twin.name}/merge" in self._details else ""
        recalled = self._add(f"{name}/recall", Detail(TaskKind.RECALL, name), (inspected,), (first,) if first else ())
        shards = self._shards(f"{name}/calibrate", Detail(TaskKind.CALIBRATE, name), calibration.shards, recalled)
        table = self._add(f"{name}/merge", Detail(TaskKind.MERGE, name), (inspected, recalled, *shards))
        if calibration.calibrator == AUTO:
            scored = self._shards(f"{name}/score", Detail(TaskKind.SCORE, name), calibration.shards, table)
            table = self._add(f"{name}/choose", Detail(TaskKind.CHOOSE, name), (inspected, table, *scored))
        needs: tuple[str, ...] = (inspected, table)
        if corrected_runtimes(model):
            # What is excluded is found at stage 0.
            for stage in range(CHECKPOINTS + 1 if calibration.bias_correction else 1):
                kind = Detail(TaskKind.CORRECT, name, stage=stage)
                most = min(calibration.shards, CORRECTION_SAMPLES)
                parts = self._shards(f"{name}/correct/{stage}", kind, most, needs[-1])
                settled = Detail(TaskKind.SETTLE, name, stage=stage)
                needs = (inspected, table, self._add(f"{name}/settle/{stage}", settled, (*needs, *parts)))
        return needs

    def _shards(self, prefix: str, detail: Detail, shards: int, needed: str) -> tuple[str, ...]:
        return tuple(
            self._add(f"{prefix}/{i}", replace(detail, shard=i, shards=shards), (f"{detail.model}/inspect", needed))
            for i in range(shards)
        )

    def _measurement(self, model: ModelSpec, base: Detail, needs: tuple[str, ...]) -> None:
        precisions = measurable(model, model.targets[base.target].precisions)
        place = f"{base.target}/{base.engine}"
        if self._spec.benchmark.modes and precisions:
            self._add(f"{model.name}/benchmark/{place}", base, needs)
        if not model.evaluate:
            return
        for precision in precisions:
            for i in range(model.evaluate.shards):
                self._add(
                    f"{model.name}/evaluate/{place}/{precision}/{i}",
                    replace(base, kind=TaskKind.EVALUATE, precision=precision, shard=i, shards=model.evaluate.shards),
                    needs if precision == "int8" else needs[:1],
                )

    def _add(self, name: str, detail: Detail, needs: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> str:
        self._tasks.append(Task(id=name, kind=detail.kind, needs=needs, after=after))
        self._details[name] = detail
        return name


def measurable(model: ModelSpec, precisions: tuple[str, ...]) -> tuple[str, ...]:
    """The precisions that a model can be measured in: INT8 needs calibration."""
    return tuple(p for p in precisions if p != "int8" or model.calibration)


def corrected_runtimes(model: ModelSpec) -> tuple[str, ...]:
    """The runtimes whose INT8 forms get corrected biases, sorted; none where the job does not want it."""
    if model.calibration is None or not (
        model.calibration.bias_correction or model.calibration.exclude_below_db is not None
    ):
        return ()
    offers = [ENGINES[e] for t in model.targets for e in t.engines if "int8" in measurable(model, t.precisions)]
    return tuple(sorted({offer.runtime for offer in offers if model.format in offer.formats}))


def _same_source(one: ModelSpec, other: ModelSpec) -> bool:
    return (one.calibration is not None and other.calibration is not None and other.calibration.reuse) and (
        (one.format, one.files, one.input_shapes, one.preprocess)
        == (other.format, other.files, other.input_shapes, other.preprocess)
    )
