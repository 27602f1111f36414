"""The report as one HTML file that needs nothing else: no script, no request. Not for serving it."""

from importlib import resources
from typing import Any

from quantfleet.rendering.plots import accuracy_plot, latency_plot, loss_plot
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.reporting import origins, words
from quantfleet_domain.reporting.report import Report
from quantfleet_domain.reporting.sections import gates, latency, remaining
from quantfleet_domain.reporting.table import METRIC_LABELS, Row, Table, tables


def to_html(report: Report) -> str:
    """The whole report as a self-contained page; the same report gives the same bytes.

    Raises QuantfleetError(USAGE) where the packages that draw it (the extra `report`) are not installed.
    """
    try:
        import jinja2
        import matplotlib  # noqa: F401 - asked for here so that its absence is one clear error
    except ImportError as error:
        raise QuantfleetError(
            ErrorCode.USAGE,
            f"an HTML report needs {error.name}, which is not installed",
            "run: pip install 'quantfleet[report]'; Markdown and CSV need nothing more",
        ) from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("quantfleet.rendering").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(**_content(report))


def _content(report: Report) -> dict[str, Any]:
    from markupsafe import Markup

    shown = tables(report)
    sections = remaining(report)
    verdicts = gates(report)
    losses = [Markup(plot) for i, trained in enumerate(report.training) if (plot := loss_plot(trained, i))]  # noqa: S704
    plots = {origins.training(report).title: losses}
    measured = any(result.latency_ms for result in report.results)
    first: dict[str, Table] = {}  # one setting says it all: accuracy depends on none
    for table in shown:
        first.setdefault(table.metric, table)
    return {
        "job": report.job,
        "headlines": headlines(report),
        "warnings": report.warnings,
        "gates": [(gate, words.number(gate.value)) for gate in report.gates],
        # The plots are drawn here, and their texts escaped by the SVG writer; everything else is escaped by Jinja.
        "tables": [(latency(t, t.precisions), Markup(latency_plot(report, t))) for t in shown],  # noqa: S704
        "accuracy_plots": [(t.title, Markup(plot)) for t in first.values() if (plot := accuracy_plot(report, t))],  # noqa: S704
        "sections": [(s, plots.get(s.title, [])) for s in sections if s.title != verdicts.title],
        "protocol": f"{words.PROTOCOL} {words.runs(report)}." if measured else "",
        "job_file": report.job_file,
    }


def headlines(report: Report) -> tuple[tuple[str, str, str], ...]:
    """The largest INT8 speed-up of every model and mode, as (figure, what it is, where and how well).

    How well is the accuracy of the very precision that is so fast.
    """
    best: dict[tuple[str, str], tuple[float, Table, Row]] = {}
    for table in tables(report):
        for row in table.rows:
            key = (row.model, table.mode)
            if row.max_speedup is not None and (key not in best or row.max_speedup > best[key][0]):
                best[key] = (row.max_speedup, table, row)
    found: list[tuple[str, str, str]] = []
    for value, table, row in best.values():
        where = f"{row.engine} {words.precision_label(row.fastest)}"
        before, after = row.accuracies.get("fp32"), row.accuracies.get(row.fastest)
        if before is not None and after is not None:
            change = f"{after - before:+.2f}".replace("-", "\N{MINUS SIGN}")
            where += f" · {METRIC_LABELS.get(table.metric, table.metric)} {change} points"
        if row.noisy:
            where += " · noisy"
        found.append((words.times(value), f"{row.model} · {table.title}", where))
    return tuple(found)
