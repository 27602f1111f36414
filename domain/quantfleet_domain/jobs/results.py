"""Whether a result is one that its task can have. Not for whether its figures are true or its artifacts good."""

import math

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.finite import not_finite
from quantfleet_domain.hardware.offers import REFERENCE_ENGINE
from quantfleet_domain.jobs.assignment import slices_of
from quantfleet_domain.jobs.lifecycle import TaskKind
from quantfleet_domain.jobs.measured import (
    BenchmarkResult,
    BoxOutcome,
    ClassOutcome,
    EvaluateResult,
    Outcome,
    PixelOutcome,
)
from quantfleet_domain.jobs.plan import Detail
from quantfleet_domain.jobs.spec import OutputKind
from quantfleet_domain.jobs.task_results import (
    CalibrateResult,
    InspectResult,
    QuantizeResult,
    Result,
    SumsResult,
    TrainResult,
)
from quantfleet_domain.jobs.validation import is_inside
from quantfleet_domain.jobs.work import EvaluateWork, InspectWork, TrainWork, Work


def check_result(detail: Detail, asked: Work | None, result: Result) -> None:
    """`asked` is what the task was given; None for a task of the coordinator's own.

    Raises QuantfleetError(WORKER_FAILED) for what later tasks or the report could not work with.
    """
    outside = (f"{name!r} leads out of its directory" for name in _paths(result) if not is_inside(name))
    wrong = _wrong(detail, asked, result) or next(outside, "") or not_finite(result)
    if wrong:
        raise QuantfleetError(
            ErrorCode.WORKER_FAILED,
            f"this is no result of a task of kind {detail.kind}: {wrong}",
            "run one version of quantfleet on the coordinator and its nodes",
        )


def _wrong(detail: Detail, asked: Work | None, result: Result) -> str:
    part = next(iter(slices_of(asked)), None) if asked else None
    first, count = (part.first, part.count) if part else (0, 0)
    match detail.kind, result:
        case TaskKind.INSPECT, InspectResult():
            return _wrong_inspection(result, quantized=isinstance(asked, InspectWork) and asked.quantized)
        case TaskKind.CALIBRATE, CalibrateResult(samples=samples, partials=partials):
            return _differs("number of samples", samples, count) or ("" if partials else "it brings no partial")
        case ((TaskKind.SCORE | TaskKind.CORRECT), SumsResult(samples=samples, sums=sums)):
            return _differs("number of samples", samples, count) or ("" if sums else "it brings no sums")
        case TaskKind.TRAIN, TrainResult(method=method, best=best):
            assert isinstance(asked, TrainWork)
            # The best may be of an interval that an older version made, for every runtime that there was.
            lacking = {*asked.runtimes} - {made.runtime for made in best.made if made.forms}
            return _differs("method", method, detail.quantization) or (
                f"it brings no model for runtimes {', '.join(sorted(lacking))}" if lacking else ""
            )
        case TaskKind.QUANTIZE, QuantizeResult(runtime=runtime, forms=forms):
            return _differs("runtime", runtime, detail.runtime) or ("" if forms else "it brings no form")
        case TaskKind.BENCHMARK, BenchmarkResult(engine=engine):
            return _differs("engine", engine, detail.engine)
        case TaskKind.EVALUATE, EvaluateResult(engine=engine, precision=precision, quantization=quantization):
            assert isinstance(asked, EvaluateWork)
            found = (engine, precision, quantization, result.first)
            wanted = (detail.engine, detail.precision, detail.quantization, first)
            return _differs("slice", found, wanted) or _wrong_outcome(result.outcome, asked.kind, count)
    return f"it is a {type(result).__name__}"


def _wrong_inspection(result: InspectResult, *, quantized: bool) -> str:
    """A quantized model has no reference graph, and any other is calibrated and converted through it."""
    if quantized:
        return ""
    if result.numerics is None or result.reference is None or result.graph is None:
        return "it brings no reference graph"
    return _differs("reference engine", result.numerics.engine, REFERENCE_ENGINE)


def _wrong_outcome(outcome: Outcome, kind: OutputKind, count: int) -> str:
    match kind, outcome:
        case OutputKind.CLASSES, ClassOutcome(labels, predicted, in_top5):
            return _differs("number of samples", (len(labels), len(predicted), len(in_top5)), (count,) * 3)
        case OutputKind.PIXELS, PixelOutcome(samples, classes, counts):
            whole = len(counts) == classes * classes and min(counts, default=0) >= 0
            return _differs("number of samples", samples, count) or ("" if whole else "it is no confusion matrix")
        case OutputKind.BOXES, BoxOutcome(samples, precision, at_half):
            figures = (precision, at_half)
            shares = all(math.isfinite(figure) and 0 <= figure <= 100 for figure in figures)
            return _differs("number of samples", samples, count) or ("" if shares else f"{figures} are no percentages")
    return f"it brings a {type(outcome).__name__}"


def _paths(result: Result) -> tuple[str, ...]:
    """Where files are put by what a result calls them: on other nodes, and by whoever fetches what a job made."""
    match result:
        case InspectResult(reference=reference, graph=graph):
            return tuple(ref.name for ref in (reference, graph) if ref)
        case TrainResult(best=best):
            return tuple(ref.name for made in best.made for form in made.forms for ref in form.files)
        case QuantizeResult(runtime=runtime, forms=forms):
            return tuple(f"{runtime}-{form.form}/{ref.name}" for form in forms for ref in form.files)
    return ()


def _differs(what: str, found: object, asked: object) -> str:
    return "" if found == asked else f"its {what} is {found!r}, not {asked!r}"
