"""The tables of docs/benchmarks/accuracy.md. Not for measuring, and not for the page's hand-written text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.records import Row

from bench import figures, records


def compared(rows: Sequence[Row]) -> list[Row]:
    """The rows in their order on the page, each of another tool with McNemar's p against ours on the same samples.

    Ours is the default calibration in the form that the engine chose, on the row's own engine, else on ONNX Runtime.
    """
    ordered = sorted(rows, key=_order)
    ours = {(row["model"], row["engine"]): row for row in ordered if _is_ours(row)}
    result = []
    for row in ordered:
        mine = ours.get((row["model"], row.get("engine")), ours.get((row["model"], "onnxruntime-cpu")))
        if "failed" in row or mine is None or _is_ours(row):
            result.append(row)
            continue
        result.append({**row, "mcnemar_top1_p": _p(row, mine, "right"), "mcnemar_agreement_p": _p(row, mine, "agrees")})
    return result


def write(page: Path, head: dict[str, Any], rows: Sequence[Row]) -> None:
    """Put the tables into the page."""
    records.splice(page, "accuracy", "\n\n".join([_provenance(head, rows), _best(rows), _all(rows)]))


def _provenance(head: dict[str, Any], rows: Sequence[Row]) -> str:
    machine = head["machine"]
    listed = ", ".join(f"{name} {version}" for name, version in head["versions"].items())
    dates = sorted(row["measured_at"][:10] for row in rows)
    return (
        f"Machine: {machine['processor']}, {machine['cores']} cores, {', '.join(machine['isa'])}. {machine['system']}. "
        f"Versions: {listed}. Measured {dates[0]} to {dates[-1]} (UTC)."
    )


def _best(rows: Sequence[Row]) -> str:
    """A row for each model and arithmetic: our default and our best beside each tool's best by agreement."""
    lines = [
        "### In short",
        "",
        "Agreement in percent; of each tool the method with the highest.",
        "",
        "| model | arithmetic | quantfleet, default | quantfleet, best | ONNX Runtime | NNCF | PaddleSlim |",
        "|---|---|---|---|---|---|---|",
    ]
    good = [row for row in rows if "failed" not in row]
    for model, arithmetic in dict.fromkeys((row["model"], row["arithmetic"]) for row in good):
        here = [row for row in good if row["model"] == model and row["arithmetic"] == arithmetic]
        cells = [_highest([row for row in here if _is_default(row)])]
        cells += [_highest([row for row in here if row["tool"] == tool]) for tool in ("ours", *_PEERS)]
        lines.append(f"| {model} | {arithmetic} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _all(rows: Sequence[Row]) -> str:
    lines = ["### All rows"]
    for model in dict.fromkeys(row["model"] for row in rows):
        here = [row for row in rows if row["model"] == model]
        first = next(row for row in here if "failed" not in row)
        lines += [
            "",
            f"#### {model}: FP32 Top-1 {first['fp32_top1']:.1f} on {first['images']} samples",
            "",
            "| tool | calibrator, method | engine | arithmetic | Top-1 | agreement | SQNR [dB] | p Top-1 | p agr. |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [_line(row) for row in here]
    return "\n".join(lines)


def _line(row: Row) -> str:
    if "failed" in row:
        return f"| {_TITLES[row['tool']]} | {row['method']} | failed: {row['failed']} | | | | | | |"
    sqnr = f"{row['sqnr_db']:.1f}" + ("" if row["sqnr_of"] == "logits" else " (probabilities)")
    cells = [_TITLES[row["tool"]], _named(row), row["engine"], row["arithmetic"], f"{row['top1']:.1f}"]
    cells += [
        f"{row['agreement']:.1f}",
        sqnr,
        *(_p_text(row.get(key)) for key in ("mcnemar_top1_p", "mcnemar_agreement_p")),
    ]
    return "| " + " | ".join(cells) + " |"


def _named(row: Row) -> str:
    return str(row["method"] if row["calibrator"] == "nncf" else f"{row['calibrator']}, {row['method']}")


_PEERS = ("onnxruntime", "nncf", "paddleslim")
_TITLES = {"ours": "quantfleet", "onnxruntime": "ONNX Runtime", "nncf": "NNCF", "paddleslim": "PaddleSlim"}


def _order(row: Row) -> tuple[str, int, bool]:
    """By model, tool, and failures last; what is alike stays in the order of measuring."""
    return row["model"], list(_TITLES).index(row["tool"]), "failed" in row


def _is_ours(row: Row) -> bool:
    return _is_default(row) and row["arithmetic"] == "int8"


def _is_default(row: Row) -> bool:
    calibrator = str(row.get("calibrator"))
    return row["tool"] == "ours" and calibrator.startswith("default (") and calibrator.endswith(")")


def _p(row: Row, mine: Row, key: str) -> float:
    count = row["images"]
    return round(figures.mcnemar_p(figures.unpacked(row[key], count), figures.unpacked(mine[key], count)), 4)


def _p_text(p: float | None) -> str:
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _highest(rows: Sequence[Row]) -> str:
    if not rows:
        return "-"
    best = max(rows, key=lambda row: float(row["agreement"]))
    return f"{best['agreement']:.1f} ({_named(best)})"
