"""The report's plots as inline SVG that follows the page's colours. Not for pages, and not for files of their own."""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from quantfleet_domain.hardware.precisions import PRECISIONS
from quantfleet_domain.measurement.latency import LatencySummary
from quantfleet_domain.reporting.making import Training
from quantfleet_domain.reporting.report import (
    Report,
    Result,
)
from quantfleet_domain.reporting.table import METRIC_LABELS, Table
from quantfleet_domain.reporting.words import milliseconds, precision_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# matplotlib writes colours in full; these stand for the page's variables and are replaced by them.
_INK, _QUIET, _RULE, _PAGE = "#010101", "#020202", "#030303", "#040404"
_SERIES = {precision: f"#0505{i:02x}" for i, precision in enumerate(PRECISIONS)}
_VARIABLES = {
    _INK: "var(--ink)",
    _QUIET: "var(--quiet)",
    _RULE: "var(--rule)",
    _PAGE: "var(--page)",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(_SERIES.values())},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "quantfleet",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": _RULE,
    "grid.linewidth": 0.8,
    "xtick.color": _QUIET,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}
_WIDTH_INCHES = 9.0
_BAR_INCHES = 0.28
_LEFT_POINTS = 200
_BOTTOM_POINTS = 38
_TOP_POINTS = 8


def latency_plot(report: Report, table: Table) -> str:
    """Bars of the median latency with a whisker from the fastest run to P99, by model, engine and precision (SVG).

    A tool that gives no single latency leaves the mean and the slowest run for them.
    """
    models = {row.model for row in table.rows}
    results = [
        r
        for r in report.results
        if r.latency_ms
        and r.model in models
        and (r.mode, r.threads, r.batch) == (table.mode, table.threads, table.batch)
    ]
    if not results:
        return ""
    groups: dict[tuple[str, str, str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.model, result.node, result.device, result.engine), []).append(result)
    several_devices = len({key[1:3] for key in groups}) > 1

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        position, ticks, labels = 0.0, [], []
        for (model, node, device, engine), group in groups.items():
            for result in group:
                _bar(axes, position, result)
                ticks.append(position)
                labels.append(_label(result, group))
                position += 1
            lines = (model, engine, f"{node}/{device}") if several_devices else (model, engine)
            axes.annotate(
                "\n".join(_short(line) for line in lines),
                (0, position - len(group) / 2 - 0.5),
                (-_LEFT_POINTS, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                annotation_clip=False,
            )
            position += 0.6
        axes.set_yticks(ticks, labels)
        axes.set_ylim(position - 1, -0.7)
        axes.set_xlim(0, max(_far_end(r.latency_ms)[1] for r in results if r.latency_ms) * 1.14)
        axes.set_xlabel(_latency_label([r.latency_ms for r in results if r.latency_ms]))
        axes.grid(axis="x")

    height = _BAR_INCHES * (len(results) + 0.6 * len(groups)) + 0.8
    alternative = "; ".join(
        f"{r.model} on {r.engine}, {precision_label(r.precision)}: {_in_words(r.latency_ms)}"
        for r in results
        if r.latency_ms
    )
    return _svg(draw, height, _LEFT_POINTS, f"{table.title}. {alternative}.", _slug(table))


def accuracy_plot(report: Report, table: Table) -> str:
    """Accuracy against mean latency: one point a variant, a line from FP32 to what became of it (SVG, or empty)."""
    metric = table.metric
    points = [
        (r, r.latency_ms.mean, figure.value)
        for r in report.results
        if r.latency_ms
        and (r.mode, r.threads, r.batch) == (table.mode, table.threads, table.batch)
        and (figure := r.accuracy_of(metric))
    ]
    if not points:
        return ""

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        alike = {_identity(r): [o for o, _, _ in points if _identity(o) == _identity(r)] for r, _, _ in points}
        baselines = {_identity(r): (x, y) for r, x, y in points if r.precision == "fp32"}
        for result, x, y in points:
            start = baselines.get(_identity(result))
            if start and result.precision != "fp32":
                axes.plot((start[0], x), (start[1], y), color=_RULE, linewidth=1.4, zorder=1)
        # Points are labelled by turns above and below, from left to right, so that neighbours do not overlap.
        for index, (result, x, y) in enumerate(sorted(points, key=lambda point: point[1])):
            axes.plot(x, y, "o", color=_SERIES.get(result.precision, _INK), markersize=9, markeredgecolor=_PAGE)
            axes.annotate(
                f"{_short(result.model)}\n{result.engine} {_label(result, alike[_identity(result)])}",
                (x, y),
                (0, 9 if index % 2 == 0 else -28),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=_QUIET,
            )
        axes.margins(0.14, 0.35)
        low, high = axes.get_ylim()
        spread = max(high - low, 4.0)  # points that lie on one line are not shown as if far apart
        axes.set_ylim(max((low + high - spread) / 2, -spread / 10), (low + high + spread) / 2)
        axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 100])
        axes.set_xlabel("Mean latency [ms] (further left is faster)")
        axes.set_ylabel(f"{METRIC_LABELS.get(metric, metric)} [%]")
        axes.tick_params(axis="y", colors=_QUIET)
        axes.grid()

    alternative = "; ".join(
        f"{r.model} on {r.engine}, {precision_label(r.precision)}: {milliseconds(x)} ms, {y:.2f} %"
        for r, x, y in points
    )
    return _svg(draw, 3.4, 46, f"Accuracy against latency. {alternative}.", f"accuracy-{_slug(table)}")


def loss_plot(training: Training, place: int) -> str:
    """The loss by iteration, with a line at the model that was taken (SVG, or empty); `place` tells plots of one page
    apart."""
    losses = sorted((int(iteration), loss) for iteration, loss in training.losses.items())
    if len(losses) < 2:
        return ""

    late = 2 * training.best_iteration > losses[0][0] + losses[-1][0]

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.plot(*zip(*losses, strict=True), color=_SERIES["int8"], linewidth=1.4)
        axes.axvline(training.best_iteration, color=_QUIET, linewidth=1, linestyle="--")
        axes.annotate(
            "taken",
            (training.best_iteration, 1),
            (-4 if late else 4, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right" if late else "left",
            va="top",
            fontsize=8,
            color=_QUIET,
        )
        axes.set_ylim(bottom=min(0.0, losses[-1][1]))
        axes.set_xlabel(f"Iteration of {training.method}, {_short(training.model)}")
        axes.set_ylabel("Loss")
        axes.tick_params(axis="y", colors=_QUIET)
        axes.grid()

    ends = " to ".join(f"{loss:.4g} at iteration {iteration}" for iteration, loss in (losses[0], losses[-1]))
    alternative = f"Training loss of {training.model} by {training.method}: from {ends}, best {training.best_iteration}"
    return _svg(draw, 2.2, 46, alternative, f"loss-{place}")


def _bar(axes: "Axes", position: float, result: Result) -> None:
    summary = result.latency_ms
    assert summary is not None
    middle, far_end = _middle(summary)[1], _far_end(summary)[1]
    axes.barh(position, middle, height=0.72, color=_SERIES.get(result.precision, _QUIET))
    axes.plot((summary.min, far_end), (position, position), color=_INK, linewidth=1.1)
    axes.plot((summary.min, far_end), (position, position), "|", color=_INK, markersize=5)
    axes.annotate(
        f"{milliseconds(middle)}" + (" noisy" if result.quiet is False else ""),
        (far_end, position),
        (6, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=_INK,
    )


def _middle(summary: LatencySummary) -> tuple[str, float]:
    return ("mean", summary.mean) if summary.median is None else ("median", summary.median)


def _far_end(summary: LatencySummary) -> tuple[str, float]:
    return ("slowest run", summary.max) if summary.p99 is None else ("P99", summary.p99)


def _in_words(summary: LatencySummary) -> str:
    return ", ".join(f"{name} {milliseconds(value)} ms" for name, value in (_middle(summary), _far_end(summary)))


def _latency_label(summaries: Sequence[LatencySummary]) -> str:
    middles, ends = (
        " or ".join(dict.fromkeys(name for name, _ in map(part, summaries))) for part in (_middle, _far_end)
    )
    return f"Latency [ms]: bar to the {middles}, whisker from the fastest run to the {ends}"


def _label(result: Result, group: Sequence[Result]) -> str:
    alike = sum(other.precision == result.precision for other in group) > 1
    return precision_label(result.precision) + (f" {result.quantization}" if alike else "")


def _identity(result: Result) -> tuple[str, ...]:
    return (result.model, result.node, result.device, result.engine)


def _short(text: str, limit: int = 30) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _slug(table: Table) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{table.mode}-{table.threads}-{table.batch}-{table.metric}".lower())


def _svg(draw: Callable[["Figure"], None], height: float, left_points: float, alternative: str, prefix: str) -> str:
    """Draw on a fresh figure; ids get a prefix of their own, colours become variables, nothing refers outside."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # Text stays text and is set in the reader's fonts: what the fonts of this machine lack is no matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(_WIDTH_INCHES, height))
        figure.patch.set_alpha(0)
        draw(figure)
        width_points, height_points = _WIDTH_INCHES * 72, height * 72
        figure.subplots_adjust(
            left=left_points / width_points,
            right=0.995,
            bottom=_BOTTOM_POINTS / height_points,
            top=1 - _TOP_POINTS / height_points,
        )
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        out = io.StringIO()
        absent = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", metadata=absent)
    drawn = out.getvalue()
    # Comments repeat every text; what users chose has no business there.
    drawn = re.sub(r"<!--.*?-->", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
    drawn = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", drawn)
    drawn = re.sub(r"#0[1-5]0[1-5]0[0-9a-f]", lambda match: _VARIABLES.get(match[0], match[0]), drawn)
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{_attribute(alternative)}" ', 1)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
