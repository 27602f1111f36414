"""Metrics from what the shards of an evaluation came to. Not for running it, nor for showing figures.

Everything is counted in integers and divided at the end, so the number of shards does not move a bit.
"""

from collections.abc import Sequence

from quantfleet_domain.jobs.measured import (
    BoxOutcome,
    ClassOutcome,
    EvaluateResult,
    Outcome,
    PixelOutcome,
)
from quantfleet_domain.reporting.report import Accuracy

_UNIT = "percent"


def figure(metric: str, outcome: Outcome) -> float:
    """One metric of one outcome of its kind, percent."""
    if isinstance(outcome, ClassOutcome):
        (found, *_) = _of_classes([metric], [outcome], [])
        return found.value
    if isinstance(outcome, PixelOutcome):
        return _of_pixels([metric], [outcome])[0].value
    return float(getattr(outcome, metric))


def figures(
    metrics: Sequence[str], parts: Sequence[EvaluateResult], reference: Sequence[EvaluateResult]
) -> tuple[Accuracy, ...]:
    """The metrics, all of one kind, over all shards of one variant; none where there is no shard.

    For classes the agreement is added: the share of samples whose class is that of `reference`, the shards of FP32,
    empty where `parts` are FP32's own.
    """
    outcomes = [part.outcome for part in parts]
    classes = [outcome for outcome in outcomes if isinstance(outcome, ClassOutcome)]
    if classes:
        return _of_classes(metrics, classes, [part.outcome for part in reference])
    pixels = [outcome for outcome in outcomes if isinstance(outcome, PixelOutcome)]
    if pixels:
        return _of_pixels(metrics, pixels)
    return tuple(
        Accuracy(metric, getattr(outcome, metric), _UNIT, outcome.samples)
        for outcome in outcomes
        if isinstance(outcome, BoxOutcome)
        for metric in metrics
    )


def _of_classes(
    metrics: Sequence[str], parts: Sequence[ClassOutcome], reference: Sequence[object]
) -> tuple[Accuracy, ...]:
    labels = [label for part in parts for label in part.labels]
    predicted = [p for part in parts for p in part.predicted]
    right = sum(p == label for p, label in zip(predicted, labels, strict=True))
    hits = {"top1": right, "accuracy": right, "top5": sum(best for part in parts for best in part.in_top5)}
    found = [_share(metric, hits[metric], len(labels)) for metric in metrics]
    others = [p for part in reference if isinstance(part, ClassOutcome) for p in part.predicted]
    if len(others) == len(predicted):
        same = sum(p == q for p, q in zip(predicted, others, strict=True))
        found.append(_share("agreement", same, len(predicted)))
    return tuple(found)


def _share(metric: str, hits: int, samples: int) -> Accuracy:
    return Accuracy(metric, 100 * hits / samples, _UNIT, samples)


def _of_pixels(metrics: Sequence[str], parts: Sequence[PixelOutcome]) -> tuple[Accuracy, ...]:
    confusion = confusion_matrix(parts)
    found = {"miou": mean_iou(confusion), "pixel_accuracy": pixel_accuracy(confusion)}
    samples = sum(part.samples for part in parts)
    return tuple(Accuracy(metric, found[metric], _UNIT, samples) for metric in metrics)


def confusion_matrix(parts: Sequence[PixelOutcome]) -> list[list[int]]:
    """The sum of the matrices, a row for each true class; a class that a shard did not meet counts 0 there."""
    classes = max(part.classes for part in parts)
    total = [[0] * classes for _ in range(classes)]
    for part in parts:
        for index, count in enumerate(part.counts):
            total[index // part.classes][index % part.classes] += count
    return total


def mean_iou(confusion: Sequence[Sequence[int]]) -> float:
    """The mean over classes of intersection over union, percent (PASCAL VOC's measure of segmentation).

    A class that neither a mask nor the model has anywhere is left out of the mean. 0 where there is no class.
    """
    shares = []
    for of_class, row in enumerate(confusion):
        union = sum(row) + sum(other[of_class] for other in confusion) - row[of_class]
        if union:
            shares.append(row[of_class] / union)
    return 100 * sum(shares) / len(shares) if shares else 0.0


def pixel_accuracy(confusion: Sequence[Sequence[int]]) -> float:
    """The share of judged pixels whose class is right, percent; 0 where none is judged."""
    judged = sum(sum(row) for row in confusion)
    return 100 * sum(row[of_class] for of_class, row in enumerate(confusion)) / judged if judged else 0.0
