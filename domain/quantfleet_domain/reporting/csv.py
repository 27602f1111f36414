"""The report as CSV: one line a result, the unit in every column's name. Not the table form (see markdown)."""

import csv
import io
from collections.abc import Callable

from quantfleet_domain.reporting.report import Report, Result

_LATENCIES = ("mean", "median", "min", "max", "p90", "p95", "p99")


def _latency(name: str) -> Callable[[Result], object]:
    return lambda result: getattr(result.latency_ms, name, None)


def _part(name: str) -> Callable[[Result], object]:
    return lambda result: result.parts_ms.get(name)


_COLUMNS: dict[str, Callable[[Result], object]] = {
    "model": lambda r: r.model,
    "node": lambda r: r.node,
    "device": lambda r: r.device,
    "engine": lambda r: r.engine,
    "engine_version": lambda r: r.engine_version,
    "precision": lambda r: r.precision,
    "quantization": lambda r: r.quantization,
    "form": lambda r: r.form,
    "mode": lambda r: r.mode,
    "threads": lambda r: r.threads,
    "batch": lambda r: r.batch,
    "warmup_runs": lambda r: r.warmup,
    "timed_runs": lambda r: r.repeat,
    "measured_at_utc": lambda r: r.measured_at,
    **{f"latency_{name}_ms": _latency(name) for name in _LATENCIES},
    "latency_cov_ratio": lambda r: r.latency_ms and r.latency_ms.cov,
    **{f"{name}_ms": _part(name) for name in ("h2d", "compute", "d2h")},
    "throughput_samples_per_s": lambda r: r.throughput_per_s,
    "speedup_ratio": lambda r: r.speedup and r.speedup.value,
    "speedup_low_ratio": lambda r: r.speedup and r.speedup.low,
    "speedup_high_ratio": lambda r: r.speedup and r.speedup.high,
    "int8_nodes": lambda r: r.int8_nodes,
    "quantizable_nodes": lambda r: r.quantizable_nodes,
    "model_bytes": lambda r: r.model_bytes,
    "memory_mib": lambda r: r.memory_mb,
    "quiet": lambda r: r.quiet,
    "samples_sha256": lambda r: r.samples_artifact,
}


def to_csv(report: Report) -> str:
    """CSV as RFC 4180 has it, with bare newlines; one column an accuracy metric; empty where nothing was measured."""
    metrics = list(dict.fromkeys((f.metric, f.unit) for r in report.results for f in r.accuracy))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_COLUMNS, *(f"{metric}_{unit}" for metric, unit in metrics)])
    for result in report.results:
        figures = {(f.metric, f.unit): f.value for f in result.accuracy}
        writer.writerow([*(column(result) for column in _COLUMNS.values()), *(figures.get(key) for key in metrics)])
    return out.getvalue()
