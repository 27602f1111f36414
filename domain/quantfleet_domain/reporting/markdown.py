"""The report as GitHub Markdown, its latencies in the field's table form. Not for terminals or browsers."""

import re
from collections.abc import Iterable, Sequence

from quantfleet_domain.reporting import words
from quantfleet_domain.reporting.report import Report
from quantfleet_domain.reporting.table import METRIC_LABELS, PRECISION_LABELS, Table, tables

_FIELD_FORM = ("fp32", "fp16", "int8", "int8+fp16", "int8+fp16+pinned")
"""The columns that published tables of this kind have, measured or not."""


def to_markdown(report: Report) -> str:
    """The whole report as GitHub Markdown with a final newline. Names that users chose are escaped."""
    parts = [f"# {escape(report.job.name)}", *_opening(report)]
    for table in tables(report):
        parts += [f"## {table.title}", _latency_table(table)]
    for heading, body in (
        ("Gates", _gates(report)),
        ("What is absent, and why", _absent(report)),
        ("Every result", _details(report)),
        ("Accuracy", _accuracy(report)),
        ("What ran in INT8, and what fell back", _fallbacks(report)),
        ("Calibration", _calibration(report)),
        ("Hardware", _hardware(report)),
        ("Provenance", _provenance(report)),
        ("Warnings", "\n".join(f"- {escape(warning)}" for warning in report.warnings)),
    ):
        if body:
            parts += [f"## {heading}", body]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Make any text safe inside a table cell or a line: no markup, no HTML, no column or line break."""
    return re.sub(r"([\\`*\[\]<>|~#])", r"\\\1", " ".join(text.split())).replace("&", "&amp;")


def _code(text: str) -> str:
    """Text as a code span, where nothing but the column mark can be escaped."""
    return "`" + " ".join(text.split()).replace("`", "'").replace("|", "\\|") + "`"


def _opening(report: Report) -> Iterable[str]:
    job = report.job
    yield f"Job {_code(job.id)}: **{job.state}**."
    if job.error:
        yield f"**{escape(job.error.what)}** {escape(job.error.todo)} (`{job.error.code}`)"
    if any(result.latency_ms for result in report.results):
        yield f"{words.PROTOCOL} {words.runs(report)}."


def _latency_table(table: Table) -> str:
    columns = [*_FIELD_FORM, *(p for p in table.precisions if p not in _FIELD_FORM)]
    metric = METRIC_LABELS.get(table.metric, table.metric)
    latencies = [f"{PRECISION_LABELS[precision]} [ms]" for precision in columns]
    header = ["Model", "Engine", "Hardware", *latencies, "Max speed-up"]
    header += [f"{metric} FP32", f"{metric} INT8", "Method"]
    rows = [
        [
            escape(row.model),
            escape(row.engine),
            escape(row.hardware),
            *(words.milliseconds(row.cells.get(precision)) for precision in columns),
            words.MISSING if row.max_speedup is None else f"{row.max_speedup:.2f}",
            words.percent(row.accuracy_fp32),
            words.percent(row.accuracy_int8),
            escape(row.method) or words.MISSING,
        ]
        for row in table.rows
    ]
    noisy = [f"{escape(row.model)} on {escape(row.engine)}: {', '.join(row.noisy)}" for row in table.rows if row.noisy]
    note = f"\n\nNoisy (see every result): {'; '.join(noisy)}." if noisy else ""
    return _grid(header, rows, numeric=range(3, len(header) - 1)) + note


def _gates(report: Report) -> str:
    rows = [
        [_code(gate.expression), words.number(gate.value), "passed" if gate.passed else "**missed**"]
        for gate in report.gates
    ]
    return _grid(["Gate", "Worst value", "Verdict"], rows, numeric=(1,))


def _absent(report: Report) -> str:
    rows = [
        [
            escape(row.model or words.MISSING),
            escape(words.place(row)),
            escape(row.engine),
            words.precision_label(row.precision),
            words.setting(row),
            escape(row.reason) if row.applicable else f"not applicable: {escape(row.reason)}",
        ]
        for row in report.absent
    ]
    return _grid(["Model", "Device", "Engine", "Precision", "Setting", "Reason"], rows)


def _details(report: Report) -> str:
    header = ["Model", "Device", "Engine", "Precision", "Setting", "Mean [ms]", "Median [ms]", "Min [ms]"]
    header += ["Max [ms]", "P90 [ms]", "P95 [ms]", "P99 [ms]", "CoV", "Samples/s", "Speed-up [95 %]", "Model [MiB]"]
    header += ["Memory [MiB]", "Conditions"]
    rows = [
        [
            escape(r.model),
            escape(words.place(r)),
            escape(f"{r.engine} {r.engine_version}"),
            words.precision_label(r.precision) + (f" {r.form}" if r.form else ""),
            words.setting(r),
            *(words.milliseconds(v) for v in (r.latency_ms.mean, r.latency_ms.median, r.latency_ms.min)),
            *(words.milliseconds(v) for v in (r.latency_ms.max, r.latency_ms.p90, r.latency_ms.p95, r.latency_ms.p99)),
            words.MISSING if r.latency_ms.cov is None else f"{r.latency_ms.cov:.1%}",
            words.number(r.throughput_per_s),
            words.ratio(r.speedup),
            words.mebibytes(r.model_bytes),
            words.number(r.memory_mb),
            escape(words.quietness(r)),
        ]
        for r in report.results
        if r.latency_ms
    ]
    return _grid(header, rows, numeric=range(5, 17))


def _accuracy(report: Report) -> str:
    rows = dict.fromkeys(
        (escape(r.model), escape(words.place(r)), escape(r.engine), words.precision_label(r.precision), *figure)
        for r in report.results
        for figure in (
            (METRIC_LABELS.get(f.metric, f.metric), words.percent(f.value), f.unit, str(f.samples)) for f in r.accuracy
        )
    )
    header = ["Model", "Device", "Engine", "Precision", "Metric", "Value", "Unit", "Samples"]
    return _grid(header, [list(row) for row in rows], numeric=(5, 7))


def _fallbacks(report: Report) -> str:
    lines = dict.fromkeys(
        f"- {escape(r.model)} on {escape(r.engine)} ({escape(words.place(r))}): "
        f"{r.int8_nodes} of {r.quantizable_nodes} quantizable nodes ran in INT8"
        + ("." if not r.fallbacks else "; these did not: " + ", ".join(escape(node) for node in r.fallbacks) + ".")
        for r in report.results
        if r.int8_nodes is not None and r.quantizable_nodes
    )
    return "\n".join(lines)


def _calibration(report: Report) -> str:
    rows = [
        [
            escape(model),
            escape(c.calibrator),
            str(c.samples),
            str(c.shards),
            words.number(c.seconds),
            f"`{c.scales_sha256}`",
            escape("; ".join(f"{name} {words.fact(value)}" for name, value in sorted(c.numerics_class.items()))),
        ]
        for model, c in sorted(report.calibration.items())
    ]
    header = ["Model", "Calibrator", "Samples", "Shards", "Seconds", "Scale table (SHA-256)", "Numerics class"]
    return _grid(header, rows, numeric=(2, 3, 4))


def _hardware(report: Report) -> str:
    return "\n".join(
        f"- **{escape(d.node)}/{escape(d.device)}**: "
        + escape("; ".join(f"{name} {words.fact(value)}" for name, value in sorted(d.hardware.items())))
        for d in report.fleet
    )


def _provenance(report: Report) -> str:
    lines = [f"- model {escape(m.name)} ({escape(m.format)}): `{m.sha256}`" for m in report.models]
    lines += [f"- {escape(name)} {escape(version)}" for name, version in sorted(report.versions.items())]
    settings = dict.fromkeys(
        f"- {escape(r.engine)} {escape(r.engine_version)} on {escape(words.place(r))}, {escape(r.precision)}, "
        f"in effect: " + escape("; ".join(f"{name} {value}" for name, value in sorted(r.settings_in_effect.items())))
        for r in report.results
        if r.settings_in_effect
    )
    samples = dict.fromkeys(f"- raw samples: `{r.samples_artifact}`" for r in report.results if r.samples_artifact)
    return "\n".join([*lines, *settings, *samples])


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]], numeric: Iterable[int] = ()) -> str:
    if not rows:
        return ""
    right = set(numeric)
    rule = ["---:" if column in right else "---" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))
