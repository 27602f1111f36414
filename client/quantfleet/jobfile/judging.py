"""What a job file says of evaluation: by which samples and metrics a model is judged. Not for computing metrics."""

from dataclasses import dataclass
from pathlib import Path

from quantfleet.jobfile import measuring, samples
from quantfleet.jobfile.samples import Found
from quantfleet_domain.jobs.spec import METRICS, METRICS_OF, OutputKind, kind_of
from quantfleet_wire.yaml_tree import Value

KEYS = ("data", "metrics", "shards")
DEFAULT_METRICS = {OutputKind.CLASSES: ("top1", "top5"), OutputKind.BOXES: METRICS_OF[OutputKind.BOXES]}


@dataclass(frozen=True)
class EvaluatePart:
    """The samples, the COCO file that says what is in them, if any, and what is computed; `shards` 0 is auto."""

    samples: tuple[Found, ...]
    annotations: Path | None
    metrics: tuple[str, ...]
    shards: int


def evaluation(keys: dict[str, Value], data: dict[str, Value], base: Path) -> EvaluatePart:
    """The section whose keys and whose data's keys these are. Raises QuantfleetError as `samples.find` does, and for
    metrics of two kinds."""
    if "data" not in keys:
        value = next(iter(keys.values()))
        raise value.error("the evaluation has no data", "give `data: {path: DIRECTORY, list: FILE}`")
    metrics = _metrics(keys.get("metrics"), data)
    kind = kind_of(metrics)
    boxes = kind is OutputKind.BOXES
    return EvaluatePart(
        samples=samples.find(keys["data"], data, base, kind),
        annotations=data["annotations"].path(base) if boxes else None,
        metrics=metrics,
        shards=measuring.shards(keys.get("shards")),
    )


def _metrics(value: Value | None, data: dict[str, Value]) -> tuple[str, ...]:
    if value is None:
        return DEFAULT_METRICS[OutputKind.BOXES if "annotations" in data else OutputKind.CLASSES]
    metrics = value.each(lambda item: item.choice("metric", METRICS), "metric")
    known = METRICS_OF[kind_of(metrics)]
    for item, metric in zip(value.items(), metrics, strict=True):
        if metric not in known:
            todo = f"an evaluation has metrics of one kind: {', '.join(known)}"
            raise item.error(f"{metric} judges something else than {metrics[0]}", todo)
    return metrics
