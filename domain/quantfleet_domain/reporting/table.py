"""The report in the field's table form: one table per mode, threads and batch. Not for writing it down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from quantfleet_domain.hardware.precisions import is_int8
from quantfleet_domain.reporting.making import Calibration
from quantfleet_domain.reporting.report import (
    FleetDevice,
    Report,
    Result,
)

PRECISION_LABELS = {
    "fp32": "FP32",
    "fp16": "FP16",
    "bf16": "BF16",
    "int8": "INT8",
    "int8+fp16": "INT8+FP16",
    "int8+fp16+pinned": "INT8+FP16+PM",
    "int16": "INT16",
}
METRIC_LABELS = {
    "top1": "Top-1",
    "top5": "Top-5",
    "accuracy": "Accuracy",
    "map": "mAP",
    "map50": "mAP50",
    "miou": "mIoU",
    "pixel_accuracy": "Pixel accuracy",
}
_SIGNIFICANT_DIGITS = 4


@dataclass(frozen=True)
class Row:
    """One model on one engine and device in one measurement, quantized in one way.

    `cells` are mean latencies in ms by precision, rounded as they are shown, and `accuracies` in percent. `method` is
    how it was quantized, or empty, with the form where that alone tells two rows apart. `noisy` names the precisions
    whose figure was disturbed.
    """

    model: str
    engine: str
    hardware: str
    cells: Mapping[str, float]
    accuracies: Mapping[str, float]
    method: str
    noisy: tuple[str, ...]

    @property
    def fastest(self) -> str:
        """The precision of the fastest INT8 cell; empty where there is none."""
        return min(filter(is_int8, self.cells), key=self.cells.__getitem__, default="")

    @property
    def max_speedup(self) -> float | None:
        """FP32 over the fastest INT8 cell, so that it follows from the cells as they are shown."""
        return (
            round(self.cells["fp32"] / self.cells[self.fastest], 2) if self.fastest and "fp32" in self.cells else None
        )

    @property
    def judged(self) -> str:
        """The precision whose accuracy stands for INT8: plain INT8 where that was evaluated, else what has FP16 beside;
        empty where there is none."""
        return next((p for p in PRECISION_LABELS if is_int8(p) and p in self.accuracies), "")


@dataclass(frozen=True)
class Table:
    """The rows measured in one `mode` at so many `threads` and samples a run (`batch`); `metric` names the accuracy.

    `alone` is whether every model of the report is in tables of that metric.
    """

    mode: str
    threads: int
    batch: int
    metric: str
    rows: tuple[Row, ...]
    alone: bool

    @property
    def title(self) -> str:
        """The table's heading, e.g. `End-to-end latency, 1 thread, batch 1`."""
        mode = {"runtime": "Runtime", "end2end": "End-to-end"}.get(self.mode, self.mode)
        judged = "" if self.alone else f", judged by {METRIC_LABELS.get(self.metric, self.metric)}"
        threads = f"{self.threads} {'thread' if self.threads == 1 else 'threads'}"
        return f"{mode} latency, {threads}, batch {self.batch}{judged}"

    @property
    def precisions(self) -> tuple[str, ...]:
        """FP32, INT8 and whatever else was measured, in the field's order."""
        measured = {precision for row in self.rows for precision in row.cells} | {"fp32", "int8"}
        return tuple(precision for precision in PRECISION_LABELS if precision in measured)


def tables(report: Report) -> tuple[Table, ...]:
    """Every table of a report: modes in the order measured, then by threads and batch; rows in the report's order.

    Models that are judged by another metric have tables of their own.
    """
    timed = [r for r in report.results if r.latency_ms and r.mode and r.threads and r.batch]
    modes = list(dict.fromkeys(result.mode for result in timed))
    keys = sorted(
        {(modes.index(r.mode), r.threads, r.batch) for r in timed if r.threads and r.batch},
    )
    of_model = metrics(report)
    shown = list(dict.fromkeys(of_model[result.model] for result in timed))
    found = []
    for mode, threads, batch in keys:
        measured = [r for r in timed if (r.mode, r.threads, r.batch) == (modes[mode], threads, batch)]
        for metric in shown:
            if judged := [r for r in measured if of_model[r.model] == metric]:
                rows = _rows(report, judged, metric)
                found.append(Table(modes[mode] or "", threads, batch, metric, rows, len(shown) == 1))
    return tuple(found)


def metrics(report: Report) -> dict[str, str]:
    """The metric that the tables show of each model: top1 where it was evaluated, else the first there is; of a model
    that was not evaluated, that of the first that was."""
    found: dict[str, list[str]] = {}
    for result in report.results:
        found.setdefault(result.model, []).extend(figure.metric for figure in result.accuracy)
    chosen = {model: "top1" if "top1" in seen else seen[0] for model, seen in found.items() if seen}
    otherwise = next(iter(chosen.values()), "top1")
    return {model: chosen.get(model, otherwise) for model in found}


def hardware_names(fleet: Sequence[FleetDevice]) -> dict[tuple[str, str], str]:
    """What to call each (node, device): the hardware's own name, and the device where two share that or it has none."""
    names = {(d.node, d.device): str(d.hardware.get("model_name", "")) for d in fleet}
    shared = [name for name in names.values() if list(names.values()).count(name) > 1]
    return {
        (node, device): f"{name} ({node}/{device})" if name in shared and name else name or f"{node}/{device}"
        for (node, device), name in names.items()
    }


def round_ms(value: float) -> float:
    """Milliseconds to four significant digits, and to at most two decimals above 10 ms, as every table shows them."""
    digits = 2 if value >= 10 else _SIGNIFICANT_DIGITS - len(f"{value:.0f}".lstrip("0"))
    return round(value, digits)


def _rows(report: Report, results: Sequence[Result], metric: str) -> tuple[Row, ...]:
    groups: dict[tuple[str, str, str, str, str | None], list[Result]] = {}
    for result in results:
        # Two targets may have met on one device: a ratio of figures that were not interleaved would mean nothing.
        measurement = result.samples_artifact
        groups.setdefault((result.model, result.node, result.device, result.engine, measurement), []).append(result)
    names = hardware_names(report.fleet)
    rows: list[Row] = []
    forms: list[str] = []
    for (_, node, device, _, _), group in groups.items():
        methods = list(dict.fromkeys(r.quantization for r in group if r.quantization != "none")) or ["none"]
        hardware = names.get((node, device), f"{node}/{device}")
        for method in methods:
            compared = [r for r in group if r.quantization in ("none", method)]
            rows.append(_row(report, compared, method, hardware, metric))
            forms.append(", ".join(dict.fromkeys(r.form for r in group if r.quantization == method and r.form)))
    named = [(row.model, row.engine, row.hardware, row.method) for row in rows]
    return tuple(
        replace(row, method=f"{row.method}, {form}") if form and named.count(name) > 1 else row
        for row, form, name in zip(rows, forms, named, strict=True)
    )


def _row(report: Report, group: Sequence[Result], method: str, hardware: str, metric: str) -> Row:
    cells = {r.precision: round_ms(r.latency_ms.mean) for r in group if r.latency_ms}
    calibration = report.calibration.get(group[0].model)
    label = "" if method == "none" else method
    if method == "static" and calibration:  # other methods have ranges of their own
        label = f"{method}, {_calibrator(calibration)}"
    return Row(
        model=group[0].model,
        engine=group[0].engine,
        hardware=hardware,
        cells=cells,
        accuracies={r.precision: figure.value for r in group if (figure := r.accuracy_of(metric))},
        method=label,
        noisy=tuple(r.precision for r in group if r.quiet is False),
    )


def _calibrator(calibration: Calibration) -> str:
    return f"auto: {calibration.chosen}" if calibration.chosen else calibration.calibrator
