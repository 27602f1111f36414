"""`make bench-calibration`: what calibration costs beside the forward pass, in time and memory, ours and other tools'.

Writes docs/benchmarks/calibration.json, and calibration.svg and the table of calibration.md. Not for accuracy.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cases import Array, cases
from bench.interleaving import Interleaved, one_core
from bench.isolation import isolated
from bench.records import Row

from bench import calibration_page, models, records, scaling

EXTREMES_ONLY = "absmax, extremes only"
TOOLS: dict[str, tuple[str, ...]] = {
    "ours": ("absmax", EXTREMES_ONLY, "percentile", "entropy", "mse"),
    "onnxruntime": ("minmax", "percentile", "entropy"),
    "paddleslim": ("abs_max", "avg", "hist", "mse", "KL"),
    "nncf": ("statistics", "default", "full"),
}
PLAIN, TWO = "plain forward", "two processes"
FLAT = (50, 500)
"""How many samples show that the memory of ours does not grow."""
_DISTINCT = 32


@dataclass(frozen=True)
class Network:
    """A model in the forms that the tools read; `images` is how many samples its peers calibrate with.

    ONNX Runtime's calibrators keep every activation of every sample, so their number is bounded by memory.
    """

    name: str
    onnx: Path | None
    paddle: Path | None
    input_name: str
    images: int
    arrays: tuple[Array, ...]

    def models(self, tool: str) -> Path | None:
        """The file or folder that the tool reads, None where this network lacks it."""
        return self.paddle if tool == "paddleslim" else self.onnx


def main() -> None:
    """Measure, write the JSON file, the page and the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with trained networks and photographs; see bench/README.md")
    parser.add_argument("--only", default=",".join(TOOLS), help=f"some of {','.join(TOOLS)}; other rows are kept")
    parser.add_argument("--model", help="this model alone; other rows are kept")
    chosen = parser.parse_args()
    tools = chosen.only.split(",")
    if not set(tools) <= set(TOOLS):
        parser.error(f"--only takes some of {','.join(TOOLS)}")
    target = records.DOCUMENTS / "calibration.json"
    with tempfile.TemporaryDirectory(prefix="quantfleet-bench-") as folder:
        for network in _networks(Path(folder), chosen.data, chosen.model):
            for row in _rows(network, tools):
                # After each, so that an interrupted run has kept what it measured.
                _store(target, row)
    calibration_page.write(records.DOCUMENTS, target)


def _store(target: Path, row: Row) -> None:
    same = ("model", "tool", "calibrator", "images")
    head = records.head("quantfleet-bench-calibration/1")
    kept = records.merged(target, head, [row], lambda old: all(old[key] == row[key] for key in same))
    records.write(target, head, sorted(kept, key=calibration_page.order))


def _networks(folder: Path, data: Path | None, wanted: str | None) -> Iterator[Network]:
    generated = tuple(models.pictures(_DISTINCT, seed=1))
    for name, images in zip(models.NETWORKS, (30, 50), strict=True):
        if wanted not in (None, name):
            continue
        isolated(models.write, name, folder / name)
        models.zeros_after_relu(folder / name / "model.onnx", list(generated[:2]))
        yield Network(name, folder / name / "model.onnx", folder / name, models.INPUT, images, generated)
    if data is None:
        return
    for case in cases(data):
        if case.preprocess is None or wanted not in (None, case.name):
            continue
        onnx, paddle = (case.model, None) if case.format == "onnx" else (None, case.model)
        yield Network(case.name, onnx, paddle, case.input_name, 100, tuple(case.arrays(_DISTINCT)))


def _rows(network: Network, tools: list[str]) -> Iterator[Row]:
    for tool in tools:
        if network.models(tool) is None:
            continue
        yield _measured(network, tool, PLAIN, network.images)
        for calibrator in TOOLS[tool]:
            yield _measured(network, tool, calibrator, network.images)
        if tool == "ours":
            for images in FLAT:
                yield _measured(network, tool, TOOLS[tool][0], images)
            row = {"model": network.name, "tool": tool, "calibrator": TWO, "images": scaling.IMAGES}
            yield {**row, **scaling.measure(network.onnx, network.input_name, list(network.arrays)), **_when()}


def _measured(network: Network, tool: str, calibrator: str, images: int) -> Row:
    row: Row = {"model": network.name, "tool": tool, "calibrator": calibrator, "images": images}
    try:
        child = isolated(_measure, network, tool, calibrator, images)
    except RuntimeError as error:  # a tool that fails on a model has a row that says so
        row["failed"] = str(error)[:300]
    else:
        row |= {**child.value, "peak_rss_mb": round(child.peak_rss_mb)}
    print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)
    return {**row, **_when()}


def _when() -> dict[str, Any]:
    return {"measured_at": records.now()}


def _measure(network: Network, tool: str, calibrator: str, images: int) -> Row:
    """One calibration, in a process that does nothing else; times are processor time of one core in s."""
    one_core()
    model = network.models(tool)
    assert model is not None
    samples = Interleaved(network.arrays, images, _forward(tool, model))
    note: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="quantfleet-bench-") as temporary:
        folder = Path(temporary)
        if calibrator == PLAIN:
            list(samples)
            return {"forward_seconds": round(samples.forward_seconds, 6)}
        if tool == "ours":
            from bench import our_calibration

            shape = network.arrays[0].shape
            extremes_only = calibrator == EXTREMES_ONLY
            note["counted_by"] = our_calibration.calibrate(
                model,
                network.input_name,
                shape,
                samples,
                folder,
                "absmax" if extremes_only else calibrator,
                extremes_only=extremes_only,
            )
        elif tool == "onnxruntime":
            from bench import onnxruntime_tool

            onnxruntime_tool.calibrate(model, network.input_name, samples, folder, calibrator)
        elif tool == "nncf":
            from bench import nncf_tool

            nncf_tool.calibrate(model, samples, calibrator)
        else:
            from bench import paddleslim_tool

            paddleslim_tool.calibrate(model, network.input_name, samples, calibrator)
    setup, seconds = samples.times()
    return {
        "setup_seconds": round(setup, 3),
        "seconds": round(seconds, 3),
        "forward_seconds": round(samples.forward_seconds, 6),
        "ratio": round(seconds / (images * samples.forward_seconds), 3),
        **note,
    }


def _forward(tool: str, model: Path) -> Any:
    """The plain forward pass of the engine that the tool calibrates for."""
    if tool == "paddleslim":
        from bench import paddleslim_tool

        return paddleslim_tool.plain(model)
    if tool == "nncf":
        from bench import nncf_tool

        return nncf_tool.plain(model)
    from bench import onnxruntime_tool

    return onnxruntime_tool.plain(model)


if __name__ == "__main__":
    main()
