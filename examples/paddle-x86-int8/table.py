"""Prints, as a Markdown table, a report of this job beside the speed-ups that Paddle's documentation publishes.

python table.py REPORT.json
"""

import json
import sys
from pathlib import Path
from typing import Any

PUBLISHED = {
    ("mobilenet_v1", 1): "2.92",
    ("mobilenet_v2", 1): "2.32",
    ("resnet50", 1): "3.78",
    ("resnet101", 1): "3.68",
    ("vgg16", 1): "3.07",
    ("vgg19", 1): "3.21",
    ("encoder", 1): "2.99",
    ("encoder", 20): "1.76",
}
"""INT8 over FP32 on a Xeon Gold 6271, by network and threads; the encoder stands where theirs is Ernie."""


def rows(report: dict[str, Any]) -> list[list[str]]:
    """A row for each network, engine and number of threads that has an INT8 result; rates are 1 / mean latency."""
    results = {
        (result["model"], result["threads"], result["engine"], result["precision"]): result
        for result in report["results"]
    }
    found = []
    for (model, threads, engine, precision), int8 in results.items():
        fp32 = results.get((model, threads, engine, "fp32"))
        if precision == "int8" and fp32 is not None:
            rates = [f"{result['throughput_per_s']:.2f}" for result in (fp32, int8)]
            nodes = f"{int8['int8_nodes']} of {int8['quantizable_nodes']}"
            published = PUBLISHED.get((model, threads), "")
            found.append([model, str(threads), engine, *rates, f"{int8['speedup']['value']:.2f}", published, nodes])
    order = [model["name"] for model in report["models"]]
    return sorted(found, key=lambda row: (order.index(row[0]), int(row[1]), row[2] != "paddle-cpu", row[2]))


def main(path: Path) -> None:
    """Print the table, and with it whether the machine was quiet."""
    report = json.loads(path.read_text(encoding="utf-8"))
    head = ["network", "threads", "engine", "FP32 /s", "INT8 /s", "INT8 / FP32", "Paddle's page", "in INT8"]
    for row in (head, ["---"] * len(head), *rows(report)):
        print(f"| {' | '.join(row)} |")
    noisy = sum(not result["quiet"] for result in report["results"])
    print(f"\n{len(report['results']) - noisy} of {len(report['results'])} measurements were quiet.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
