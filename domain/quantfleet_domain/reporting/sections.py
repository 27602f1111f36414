"""The report cut into titled tables of plain text, for every form of it. Not for markup: nothing is escaped."""

from collections.abc import Callable, Sequence

from quantfleet_domain.hardware.precisions import is_int8
from quantfleet_domain.reporting import words
from quantfleet_domain.reporting.origins import calibration, outliers, scores, training
from quantfleet_domain.reporting.report import Report, Result
from quantfleet_domain.reporting.section import Section as Section
from quantfleet_domain.reporting.table import METRIC_LABELS, Row, Table


def latency(table: Table, precisions: Sequence[str]) -> Section:
    """One latency table in the field's form, with a column for each of `precisions`."""
    metric = METRIC_LABELS.get(table.metric, table.metric)
    columns = (f"{words.precision_label(precision)} [ms]" for precision in precisions)
    header = ("Model", "Engine", "Hardware", *columns, "Max speed-up", f"{metric} FP32", f"{metric} INT8", "Method")
    rows = tuple(
        (
            row.model,
            row.engine,
            row.hardware,
            *(words.milliseconds(row.cells.get(precision)) for precision in precisions),
            words.MISSING if row.max_speedup is None else f"{row.max_speedup:.2f}",
            words.percent(row.accuracies.get("fp32")),
            words.percent(row.accuracies.get(row.judged)),
            row.method or words.MISSING,
        )
        for row in table.rows
    )
    noisy = [(row, ", ".join(words.precision_label(p) for p in row.noisy)) for row in table.rows if row.noisy]
    beside = [(row, words.precision_label(row.judged)) for row in table.rows if row.judged not in ("", "int8")]
    notes = (
        _note("Noisy (why: see conditions)", noisy),
        _note(f"The {metric} under INT8 is that of another precision", beside),
    )
    return Section(table.title, header, rows, frozenset(range(3, len(header) - 1)), " ".join(filter(None, notes)))


def _note(what: str, of: Sequence[tuple[Row, str]]) -> str:
    # A model that is quantized in several ways has a row for each, of one measurement.
    places = dict.fromkeys(f"{row.model} on {row.engine} ({precisions})" for row, precisions in of)
    return f"{what}: {'; '.join(places)}." if places else ""


def remaining(report: Report) -> tuple[Section, ...]:
    """Everything but the latency tables, in the order it is read; sections without a row are left out."""
    makers: tuple[Callable[[Report], Section], ...] = (
        gates,
        absent,
        latencies,
        parts,
        conditions,
        accuracy,
        int8_nodes,
        conversions,
        training,
        calibration,
        scores,
        outliers,
        hardware,
        settings,
        versions,
        digests,
    )
    return tuple(section for section in (make(report) for make in makers) if section.rows)


def gates(report: Report) -> Section:
    """Every gate with the worst value and the verdict."""
    rows = ((g.expression, words.number(g.value), "passed" if g.passed else "missed") for g in report.gates)
    return Section("Gates", ("Gate", "Worst value", "Verdict"), tuple(rows), frozenset({1}))


def absent(report: Report) -> Section:
    """What was asked for and not measured, with the reason."""
    rows = (
        (
            row.model or words.MISSING,
            words.place(row),
            row.engine,
            words.variant(row),
            words.setting(row),
            row.reason if row.applicable else f"not applicable: {row.reason}",
        )
        for row in report.absent
    )
    header = ("Model", "Device", "Engine", "Variant", "Setting", "Reason")
    return Section("What is absent, and why", header, tuple(rows))


def latencies(report: Report) -> Section:
    """The distribution of every timed result."""
    header = (
        *_WHICH_HEADER,
        *(f"{name} [ms]" for name in ("Mean", "Median", "Min", "Max", "P90", "P95", "P99")),
        "CoV",
    )
    rows = (
        (
            *_which(r),
            *map(words.milliseconds, (ms.mean, ms.median, ms.min, ms.max, ms.p90, ms.p95, ms.p99)),
            words.MISSING if ms.cov is None else f"{ms.cov:.1%}",
        )
        for r in report.results
        if (ms := r.latency_ms)
    )
    return Section("Every latency", header, tuple(rows), frozenset(range(5, 15)))


_PARTS = {"h2d": "H2D", "compute": "Compute", "d2h": "D2H"}


def parts(report: Report) -> Section:
    """What the parts of a run took, where the device has a clock of its own."""
    rows = (
        (*_which(r), *(words.milliseconds(r.parts_ms.get(name)) for name in _PARTS))
        for r in report.results
        if r.parts_ms
    )
    note = "Means by the device's own clock. The latency of a run is by the host's, copies and waiting included."
    header = (*_WHICH_HEADER, *(f"{label} [ms]" for label in _PARTS.values()))
    return Section("Parts of a run", header, tuple(rows), frozenset(range(5, 10)), note)


def conditions(report: Report) -> Section:
    """What every timed result gained and cost, and what disturbed it."""
    header = (*_WHICH_HEADER, "Speed-up [95 %]", "Samples/s", "Model [MiB]", "Memory [MiB]", "Conditions")
    rows = (
        (
            *_which(r),
            words.ratio(r.speedup),
            words.number(r.throughput_per_s),
            words.mebibytes(r.model_bytes),
            words.number(r.memory_mb),
            words.quietness(r),
        )
        for r in report.results
        if r.latency_ms
    )
    return Section("Speed-up, size and conditions", header, tuple(rows), frozenset(range(5, 11)))


_WHICH_HEADER = ("Model", "Device", "Engine", "Precision", "Mode", "Threads", "Batch")


def _which(result: Result) -> tuple[str, ...]:
    precision = words.variant(result) + (f" {result.form}" if result.form else "")
    engine = f"{result.engine} {result.engine_version}"
    size = (words.number(result.threads), words.number(result.batch))
    return (result.model, words.place(result), engine, precision, result.mode or words.MISSING, *size)


def accuracy(report: Report) -> Section:
    """Every accuracy once: it does not depend on mode, threads or batch."""
    rows = dict.fromkeys(
        (
            r.model,
            words.place(r),
            r.engine,
            words.precision_label(r.precision),
            r.quantization,
            METRIC_LABELS.get(figure.metric, figure.metric),
            words.percent(figure.value),
            figure.unit,
            str(figure.samples),
        )
        for r in report.results
        for figure in r.accuracy
    )
    header = ("Model", "Device", "Engine", "Precision", "Quantization", "Metric", "Value", "Unit", "Samples")
    return Section("Accuracy", header, tuple(rows), frozenset({6, 8}))


def int8_nodes(report: Report) -> Section:
    """How many nodes ran in INT8, and which fell back."""
    rows = dict.fromkeys(
        (
            r.model,
            words.place(r),
            r.engine,
            words.variant(r),
            words.MISSING if r.int8_nodes is None else f"{r.int8_nodes} of {r.quantizable_nodes}",
            "; ".join(r.int8_operators) or (words.MISSING if r.int8_nodes is None else "none"),
            "; ".join(r.fallbacks) or "none",
        )
        for r in report.results
        if is_int8(r.precision) and (r.int8_nodes is not None or r.fallbacks)
    )
    slower = any(r.speedup and r.speedup.value < 1 and r.int8_nodes is not None for r in report.results)
    title = "Why is INT8 slower?" if slower else "What ran in INT8"
    note = (
        "Quantizable are the nodes that the quantizer meant to run in INT8. A node that fell back runs in floating "
        "point, and converting on each side of it costs time; on small networks that can outweigh the gain."
    )
    header = ("Model", "Device", "Engine", "Variant", "Nodes in INT8", "Ran in INT8", "Fell back")
    return Section(title, header, tuple(rows), note=note)


def conversions(report: Report) -> Section:
    """What the engine put between nodes: changes of layout, and between integers and floating point."""
    rows = dict.fromkeys(
        (
            r.model,
            words.place(r),
            r.engine,
            words.variant(r),
            words.threads(r.threads or 1),
            conversion.operator,
            str(conversion.count),
            words.MISSING if conversion.time_share is None else f"{conversion.time_share:.1%}",
        )
        for r in report.results
        for conversion in r.conversions
    )
    header = ("Model", "Device", "Engine", "Variant", "Threads", "Conversion", "Times a run", "Share of the run")
    return Section("Conversions between nodes", header, tuple(rows), frozenset({6, 7}))


def hardware(report: Report) -> Section:
    """The verified facts of every device."""
    rows = (
        (f"{device.node}/{device.device}", name, words.fact(value))
        for device in report.fleet
        for name, value in sorted(device.hardware.items())
    )
    return Section("Hardware", ("Device", "Fact", "Value"), tuple(rows))


def settings(report: Report) -> Section:
    """The settings that were in effect, as read back."""
    rows = dict.fromkeys(
        (
            f"{r.engine} {r.engine_version}",
            words.place(r),
            words.precision_label(r.precision),
            words.setting(r),
            words.facts(r.settings_in_effect),
        )
        for r in report.results
        if r.settings_in_effect
    )
    return Section("Settings in effect", ("Engine", "Device", "Precision", "Setting", "Read back"), tuple(rows))


def versions(report: Report) -> Section:
    """The version of every package that had a part."""
    return Section("Versions", ("Package", "Version"), tuple(sorted(report.versions.items())))


def digests(report: Report) -> Section:
    """What the figures come from, by content."""
    models = ((f"model {m.name} ({m.format})", m.sha256) for m in report.models)
    given = ((f"quantized model given for {m.name}", m.given_sha256) for m in report.models if m.given_sha256)
    tables = ((f"scale table of {name}", c.scales_sha256) for name, c in sorted(report.calibration.items()))
    corrected = ((name, c.bias_correction) for name, c in sorted(report.calibration.items()))
    biases = ((f"bias corrections of {name}", done.sha256) for name, done in corrected if done)
    samples = (
        (f"raw samples of {r.model} on {r.engine}, {words.place(r)}, {words.setting(r)}", r.samples_artifact)
        for r in report.results
        if r.samples_artifact
    )
    return Section("Digests", ("What", "SHA-256"), tuple(dict.fromkeys((*models, *given, *tables, *biases, *samples))))
