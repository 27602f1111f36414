"""Prints a report of this job, as a Markdown table, in the form of Paddle's table for the Snapdragon 855; then that.

python table.py REPORT.json
"""

import json
import sys
from pathlib import Path
from typing import Any

ENGINES = {"armv7": "paddle-lite-armv7", "armv8": "paddle-lite"}
THREADS = (1, 2, 4)
PUBLISHED = {
    "mobilenet_v1_fp32": (32.19, 18.75, 11.02, 29.50, 17.50, 9.58),
    "mobilenet_v1_int8": (19.00, 10.93, 5.97, 13.08, 7.68, 3.98),
    "mobilenet_v2_fp32": (23.77, 14.23, 8.52, 19.98, 12.19, 7.44),
    "mobilenet_v2_int8": (17.68, 10.49, 5.93, 12.76, 7.70, 4.36),
}
"""Milliseconds on a Snapdragon 855, in the order of the columns, as Paddle's page on quantization has them."""
MISSING = "—"


def rows(report: dict[str, Any]) -> list[list[str]]:
    """A row for each network and precision: mean latencies in milliseconds by ABI and threads."""
    means = {
        (result["model"], result["precision"], result["engine"], result["threads"]): result["latency_ms"]["mean"]
        for result in report["results"]
        if result["latency_ms"]
    }
    found = []
    for model in (model["name"] for model in report["models"]):
        for precision in ("fp32", "int8"):
            cells = [means.get((model, precision, engine, t)) for engine in ENGINES.values() for t in THREADS]
            shown = [MISSING if cell is None else f"{cell:.2f}" for cell in cells]
            found.append([f"{model}_{precision}", *shown])
    return found


def show(title: str, lines: list[list[str]]) -> None:
    """Print a table in the published form."""
    head = [title, *(f"{abi} {threads} [ms]" for abi in ENGINES for threads in THREADS)]
    for row in (head, ["---"] * len(head), *lines):
        print(f"| {' | '.join(row)} |")


def main(path: Path) -> None:
    """Print what was measured, then what was published."""
    report = json.loads(path.read_text(encoding="utf-8"))
    names = sorted({str(device["hardware"].get("model_name", "")) for device in report["fleet"]} - {""})
    show(", ".join(names) or "no device", rows(report))
    print()
    show("Snapdragon 855, published", [[name, *(f"{v:.2f}" for v in row)] for name, row in PUBLISHED.items()])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
