"""The table and the plot of docs/benchmarks/calibration.md. Not for measuring, and not for the page's other text."""

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from bench.records import Row
from matplotlib import pyplot as plt

from bench import records

TITLES = {"ours": "quantfleet", "onnxruntime": "ONNX Runtime", "paddleslim": "PaddleSlim", "nncf": "NNCF"}
_COLOURS = {"ours": "#0072b2", "onnxruntime": "#999999", "paddleslim": "#e69f00", "nncf": "#009e73"}
_PLAIN, _TWO = "plain forward", "two processes"


def order(row: Row) -> tuple[str, int, int, bool, str]:
    """By model, tool and number of images; the plain forward pass first."""
    tool = list(TITLES).index(row["tool"])
    return row["model"], tool, int(row["images"]), row["calibrator"] != _PLAIN, row["calibrator"]


def write(folder: Path, source: Path) -> None:
    """Write `folder`/calibration.svg and the table of `folder`/calibration.md from the JSON file."""
    document = json.loads(source.read_text())
    rows: list[Row] = document["rows"]
    _plot(folder / "calibration.svg", rows)
    machine = document["machine"]
    listed = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    dates = sorted(row["measured_at"][:10] for row in rows)
    provenance = (
        f"Machine: {machine['processor']}, {machine['cores']} cores, {', '.join(machine['isa'])}. {machine['system']}. "
        f"Versions: {listed}. Measured {dates[0]} to {dates[-1]} (UTC)."
    )
    text = [
        provenance,
        *(_table(model, rows) for model in dict.fromkeys(row["model"] for row in rows)),
        _scaling(rows),
    ]
    records.splice(folder / "calibration.md", "calibration", "\n\n".join(text))


def _table(model: str, rows: Sequence[Row]) -> str:
    lines = [
        f"### {model}",
        "",
        "| tool | calibrator | images | ÷ forward | seconds | set-up [s] | forward [ms] | peak memory [MiB] |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["model"] != model or row["calibrator"] == _TWO:
            continue
        start = f"| {TITLES[row['tool']]} | {row['calibrator']} | {row['images']} | "
        if "failed" in row:
            lines.append(f"{start}failed: {row['failed']} | | | | |")
            continue
        cells = ["", "", ""]
        if "ratio" in row:
            cells = [f"**{row['ratio']:.2f}**", f"{row['seconds']:.2f}", f"{row['setup_seconds']:.2f}"]
        lines.append(
            start + " | ".join([*cells, f"{1000 * row['forward_seconds']:.2f}", f"{row['peak_rss_mb']}"]) + " |"
        )
    return "\n".join(lines)


def _scaling(rows: Sequence[Row]) -> str:
    lines = [
        "### Two processes against one",
        "",
        "By the clock: it counts only where the processes had their cores to themselves, which the last column says.",
        "",
        "| model | images | one process [s] | two are so many times as fast | rounds | share of the cores |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["calibrator"] == _TWO and "failed" not in row:
            rounds = ", ".join(f"{value:.2f}" for value in row["speedups"])
            lines.append(
                f"| {row['model']} | {row['images']} | {row['seconds']:.2f} | {row['speedup']:.2f} | {rounds} "
                f"| {100 * row['core_share']:.0f} % |"
            )
    return "\n".join(lines)


def _plot(path: Path, rows: Sequence[Row]) -> None:
    """Bars of calibration ÷ forward, a panel for each model, at the number of images that all tools calibrated with."""
    common = [row for row in rows if "ratio" in row and row["images"] == _common(rows, row["model"])]
    names = list(dict.fromkeys(row["model"] for row in common))
    mpl.rcParams["svg.hashsalt"] = "quantfleet"  # the same rows give the same file
    bars_of = [sum(row["model"] == name for row in common) for name in names]
    figure, panels = plt.subplots(
        len(names),
        1,
        figsize=(8, 0.9 * len(names) + 0.22 * len(common)),
        squeeze=False,
        sharex=True,
        gridspec_kw={"height_ratios": bars_of},
    )
    for panel, name in zip(panels[:, 0], names, strict=True):
        here = [row for row in common if row["model"] == name][::-1]
        labels = [f"{TITLES[row['tool']]} {row['calibrator']}" for row in here]
        bars = panel.barh(labels, [row["ratio"] for row in here], color=[_COLOURS[row["tool"]] for row in here])
        panel.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
        panel.set_xscale("log")
        panel.set_xlim(0.8, 2 * max(row["ratio"] for row in common))
        panel.axvline(1, color="black", linewidth=0.8)
        panel.set_title(f"{name}, {here[0]['images']} images", fontsize=10)
        panel.tick_params(labelsize=8)
    panels[-1, 0].set_xlabel("calibration ÷ plain forward pass (processor time, one thread)", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _common(rows: Sequence[Row], model: str) -> int:
    return next(int(row["images"]) for row in rows if row["model"] == model and row["calibrator"] == _PLAIN)
