"""Whether a result is one that its task can have. Not for whether its figures are true or its artifacts good."""

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.offers import REFERENCE_ENGINE
from quantfleet_domain.jobs.lifecycle import TaskKind
from quantfleet_domain.jobs.plan import Detail
from quantfleet_domain.jobs.validation import is_inside
from quantfleet_domain.jobs.work import (
    BenchmarkResult,
    CalibrateResult,
    EvaluateResult,
    InspectResult,
    QuantizeResult,
    Result,
    Slice,
    SumsResult,
    TrainResult,
)


def check_result(detail: Detail, part: Slice | None, result: Result) -> None:
    """`part` are the samples that the task was given.

    Raises QuantfleetError(WORKER_FAILED) for what later tasks or the report could not work with.
    """
    outside = (f"{name!r} leads out of its directory" for name in _paths(result) if not is_inside(name))
    wrong = _wrong(detail, part, result) or next(outside, "")
    if wrong:
        raise QuantfleetError(
            ErrorCode.WORKER_FAILED,
            f"this is no result of a task of kind {detail.kind}: {wrong}",
            "run one version of quantfleet on the coordinator and its nodes",
        )


def _wrong(detail: Detail, part: Slice | None, result: Result) -> str:
    first, count = (part.first, part.count) if part else (0, 0)
    match detail.kind, result:
        case TaskKind.INSPECT, InspectResult(numerics=numerics):
            return _differs("reference engine", numerics.engine, REFERENCE_ENGINE) if numerics else ""
        case TaskKind.CALIBRATE, CalibrateResult(samples=samples, partials=partials):
            return _differs("number of samples", samples, count) or ("" if partials else "it brings no partial")
        case ((TaskKind.SCORE | TaskKind.CORRECT), SumsResult(samples=samples, sums=sums)):
            return _differs("number of samples", samples, count) or ("" if sums else "it brings no sums")
        case TaskKind.TRAIN, TrainResult(method=method, best=best):
            return _differs("method", method, detail.quantization) or ("" if best.form.files else "it brings no model")
        case TaskKind.QUANTIZE, QuantizeResult(runtime=runtime, forms=forms):
            return _differs("runtime", runtime, detail.runtime) or ("" if forms else "it brings no form")
        case TaskKind.BENCHMARK, BenchmarkResult(engine=engine):
            return _differs("engine", engine, detail.engine)
        case TaskKind.EVALUATE, EvaluateResult(engine=engine, precision=precision, quantization=quantization):
            lengths = (len(c) for c in (result.labels, result.predicted, result.in_top5))
            found = (engine, precision, quantization, result.first, *lengths)
            asked = (detail.engine, detail.precision, detail.quantization, first, *[count] * 3)
            return _differs("slice", found, asked)
    return f"it is a {type(result).__name__}"


def _paths(result: Result) -> tuple[str, ...]:
    """Where files are put by what a result calls them: on other nodes, and by whoever fetches what a job made."""
    match result:
        case InspectResult(reference=reference, graph=graph):
            return tuple(ref.name for ref in (reference, graph) if ref)
        case TrainResult(best=best):
            return tuple(ref.name for ref in best.form.files)
        case QuantizeResult(runtime=runtime, forms=forms):
            return tuple(f"{runtime}-{form.form}/{ref.name}" for form in forms for ref in form.files)
    return ()


def _differs(what: str, found: object, asked: object) -> str:
    return "" if found == asked else f"its {what} is {found!r}, not {asked!r}"
