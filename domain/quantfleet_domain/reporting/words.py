"""How figures are put into words and digits, the same in every form of the report. Not for layout."""

from collections.abc import Mapping

from quantfleet_domain.reporting.facts import Fact
from quantfleet_domain.reporting.making import (
    BiasCorrection,
    Calibration,
)
from quantfleet_domain.reporting.report import (
    Absent,
    Report,
    Result,
    SpeedupFigure,
)
from quantfleet_domain.reporting.table import PRECISION_LABELS

MISSING = "—"

PROTOCOL = (
    "Latencies are means over all timed runs of one input batch, in milliseconds. "
    "Mode runtime copies a prepared batch in, infers and copies the outputs out; "
    "mode end-to-end adds decoding, pre- and post-processing. "
    "All variants of a model on a device were timed in interleaved blocks. "
    "Max speed-up is FP32 over the fastest INT8 cell of the row. "
    "A speed-up's interval is a 95 % bootstrap over blocks; "
    "percentiles are of the pooled runs, linearly interpolated between the closest ranks."
)


def milliseconds(value: float | None) -> str:
    """A latency with the digits that `round_ms` leaves, or a dash."""
    if value is None:
        return MISSING
    digits = 2 if value >= 10 else 3 if value >= 1 else 4
    return f"{value:.{digits}f}"


def times(value: float | None) -> str:
    """A ratio as `2.15×`, or a dash."""
    return MISSING if value is None else f"{value:.2f}\N{MULTIPLICATION SIGN}"


def percent(value: float | None) -> str:
    """A share in percent with two decimals and no unit, or a dash."""
    return MISSING if value is None else f"{value:.2f}"


def ratio(figure: SpeedupFigure | None) -> str:
    """A speed-up with its interval: `2.15× [2.10, 2.20]`."""
    if figure is None:
        return MISSING
    interval = "" if figure.low is None or figure.high is None else f" [{figure.low:.2f}, {figure.high:.2f}]"
    return times(figure.value) + interval


def number(value: float | None) -> str:
    """Any other figure, without needless digits."""
    return MISSING if value is None else f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def mebibytes(value: int | None) -> str:
    """Bytes in MiB, or a dash."""
    return number(None if value is None else value / 2**20)


def fact(value: Fact) -> str:
    """A fact in words: lists with commas, yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, tuple) else f"{value:.6g}" if isinstance(value, float) else str(value)


def facts(values: Mapping[str, Fact]) -> str:
    """Facts on one line: `threads 1; affinity cpu 2`."""
    return "; ".join(f"{name} {fact(value)}" for name, value in sorted(values.items()))


def precision_label(precision: str) -> str:
    """A precision as tables head it: `INT8+FP16+PM`."""
    return PRECISION_LABELS.get(precision, precision.upper())


def variant(report_row: Result | Absent) -> str:
    """A precision with how it was quantized, or would have been: `FP32`, `INT8 dynamic`."""
    label = precision_label(report_row.precision)
    return label if report_row.quantization in (None, "none") else f"{label} {report_row.quantization}"


def calibrator(calibration: Calibration) -> str:
    """A calibrator with its parameter, and what `auto` came to: `percentile 99.99`, `auto: mse`."""
    parameter = "" if calibration.parameter is None else f" {calibration.parameter:.10g}"
    return calibration.calibrator + parameter + (f": {calibration.chosen}" if calibration.chosen else "")


def bias_correction(done: BiasCorrection | None) -> str:
    """What was done to biases: `28 layers in 5 stages, on 100 samples, 12.3 s`, or `none`."""
    if done is None:
        return "none"
    stages = f"{done.stages} stage{'s' * (done.stages != 1)}"
    return f"{done.layers} layers in {stages}, on {done.samples} samples, {number(done.seconds)} s"


def quietness(result: Result) -> str:
    """`quiet`, or `noisy` with the reasons, or that it is not known."""
    if result.quiet is None:
        return "not watched"
    return "quiet" if result.quiet else f"noisy: {'; '.join(result.noise)}" if result.noise else "noisy"


def place(report_row: Result | Absent) -> str:
    """Where a row was measured, or would have been: `node/device`."""
    return f"{report_row.node}/{report_row.device}" if report_row.node and report_row.device else MISSING


def setting(report_row: Result | Absent) -> str:
    """Mode, threads and batch of a row: `runtime, 1 thread, batch 1`; what was not settled is left out."""
    parts = [report_row.mode or ""]
    if report_row.threads and report_row.batch:
        parts += [threads(report_row.threads), f"batch {report_row.batch}"]
    return ", ".join(part for part in parts if part) or MISSING


def threads(count: int) -> str:
    """`1 thread`, `2 threads`."""
    return f"{count} thread" if count == 1 else f"{count} threads"


def runs(report: Report) -> str:
    """How often everything was timed, as the results say: `200 warm-up runs, then 1000 timed runs in 20 blocks`."""
    found = dict.fromkeys((r.warmup, r.repeat, r.blocks) for r in report.results if r.latency_ms)
    phrases = (
        f"{warmup or 0} warm-up runs, then {repeat} timed runs" + (f" in {blocks} blocks" if blocks else "")
        for warmup, repeat, blocks in found
    )
    return "; ".join(phrases)
