"""`make bench-accuracy`: what INT8 costs in accuracy with quantfleet and with its peers, on the same samples.

Writes docs/benchmarks/accuracy.json and the tables of accuracy.md. Not for speed.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench.cases import CALIBRATION_SAMPLES, Array, Case, cases
from bench.figures import Outputs
from bench.isolation import isolated
from bench.records import Row

from bench import accuracy_page, figures, records

TOOLS = ("ours", "onnxruntime", "nncf", "paddleslim")
INT8, EXACT, FLOAT = "int8", "int8 without saturation", "simulated in float"
"""How the engine computed. `EXACT` is what a CPU with VNNI computes; `FLOAT` rounds as INT8 does and adds in float."""
ORT_METHODS: dict[str, dict[str, Any]] = {
    "as it is": {"float_softmax": True},
    "reduce_range": {"float_softmax": True, "reduce_range": True},
}
NNCF_METHODS: dict[str, dict[str, Any]] = {
    "default": {},
    "mixed preset": {"mixed": True},
    "full bias correction": {"full": True},
    "mixed preset, full bias correction": {"mixed": True, "full": True},
    "overflow_fix": {"overflow_fix": True},
    "overflow_fix, full bias correction": {"overflow_fix": True, "full": True},
}
NNCF_ONNX_METHODS = ("default", "full bias correction", "overflow_fix, full bias correction")
SLIM_METHODS = (("abs_max", False), ("avg", False), ("hist", False), ("KL", False), ("mse", False), ("abs_max", True))


@dataclass(frozen=True)
class Measured:
    """The outputs of one quantized model on the evaluation samples, run in one way."""

    tool: str
    engine: str
    calibrator: str
    method: str
    arithmetic: str
    outputs: Outputs


def main() -> None:
    """Measure, write the JSON file and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with models/ and images/; see bench/README.md")
    parser.add_argument("--only", default=",".join(TOOLS), help=f"some of {','.join(TOOLS)}; other rows are kept")
    parser.add_argument("--model", help="this model alone; other rows are kept")
    chosen = parser.parse_args()
    tools = chosen.only.split(",")
    if not set(tools) <= set(TOOLS):
        parser.error(f"--only takes some of {','.join(TOOLS)}")
    found = [case for case in cases(chosen.data) if chosen.model in (None, case.name)]
    names = {case.name for case in found}
    rows: list[Row] = []
    for case in found:
        rows += _rows(case, tools)
    target = records.DOCUMENTS / "accuracy.json"
    # A tool that failed and one that was measured before are one tool: all its rows go.
    head = records.head("quantfleet-bench-accuracy/1")
    kept = records.merged(target, head, rows, lambda row: row["tool"] in tools and row["model"] in names)
    everything = accuracy_page.compared(kept)
    records.write(target, head, everything)
    accuracy_page.write(records.DOCUMENTS / "accuracy.md", head, everything)


def _rows(case: Case, tools: Sequence[str]) -> list[Row]:
    arrays = case.arrays()
    labels = np.array([label for _, label in case.labels()])[CALIBRATION_SAMPLES:]
    evaluated = arrays[CALIBRATION_SAMPLES:]
    engine = "onnxruntime-cpu" if case.format == "onnx" else "paddle-cpu"
    reference = isolated(_fp32, case, evaluated, engine).value
    rows: list[Row] = []
    for tool, function, arguments in _plan(case, arrays, tools):
        started = time.monotonic()
        described = {"model": case.name, "tool": tool, "images": len(labels), "measured_at": records.now()}
        try:
            results: list[Measured] = isolated(function, *arguments).value
        except RuntimeError as error:  # a row says which of a tool's methods does not work on a model
            rows.append({**described, "method": ", ".join(map(str, arguments[2:])), "failed": str(error)[:300]})
            print(f"{case.name:25} {tool} {arguments[2:]}: {error}", flush=True)
            continue
        for measured in results:
            row = {**described, **_figures(measured, reference, labels)}
            rows.append(row)
            print(
                f"{case.name:25} {tool:12} {measured.engine:15} {measured.calibrator:12} {measured.method:30} "
                f"{measured.arithmetic:24} top1 {row['top1']:5.1f} ({row['fp32_top1']:.1f}) "
                f"agreement {row['agreement']:5.1f} sqnr {row['sqnr_db']} {time.monotonic() - started:6.1f} s",
                flush=True,
            )
    return rows


def _figures(measured: Measured, reference: Outputs, labels: np.ndarray[Any, np.dtype[np.int64]]) -> Row:
    logits = figures.sqnr_logits_db(measured.outputs, reference)
    sqnr = figures.sqnr_probabilities_db(measured.outputs, reference) if logits is None else logits
    classes = measured.outputs.argmax(axis=1)
    return {
        "engine": measured.engine,
        "calibrator": measured.calibrator,
        "method": measured.method,
        "arithmetic": measured.arithmetic,
        "fp32_top1": figures.top1(reference, labels),
        "top1": figures.top1(measured.outputs, labels),
        "agreement": figures.agreement(measured.outputs, reference),
        "sqnr_db": round(sqnr, 2),
        "sqnr_of": "probabilities" if logits is None else "logits",
        # One bit a sample: enough to compare any two rows pairwise, and nothing of the samples.
        "right": figures.packed(classes == labels),
        "agrees": figures.packed(classes == reference.argmax(axis=1)),
    }


def _plan(
    case: Case, arrays: list[Array], tools: Sequence[str]
) -> Iterator[tuple[str, Callable[..., list[Measured]], tuple[Any, ...]]]:
    """Every (tool, function, arguments) that applies to the model; each is run in a process of its own."""
    if "ours" in tools:
        yield "ours", _ours, (case, arrays)
    if case.format == "onnx" and "onnxruntime" in tools:
        for calibrator in ("minmax", "percentile", "entropy"):
            for method in ORT_METHODS:
                yield "onnxruntime", _onnxruntime, (case, arrays, calibrator, method)
    if case.format == "onnx" and "nncf" in tools:
        for method in NNCF_METHODS:
            yield "nncf", _nncf, (case, arrays, method)
        for method in NNCF_ONNX_METHODS:
            yield "nncf", _nncf_onnx, (case, arrays, method)
    if case.format == "paddle" and "paddleslim" in tools:
        for calibrator, corrected in SLIM_METHODS:
            yield "paddleslim", _paddleslim, (case, arrays, calibrator, corrected)


def _fp32(case: Case, arrays: list[Array], engine: str) -> Outputs:
    from bench import our_jobs

    return our_jobs.predict(engine, case.model, "fp32", arrays)


def _ours(case: Case, arrays: list[Array]) -> list[Measured]:
    from bench import our_jobs

    results = []
    with tempfile.TemporaryDirectory(prefix="quantfleet-bench-") as folder:
        for model in our_jobs.run_jobs(case, arrays, Path(folder) / "job"):
            evaluated = arrays[CALIBRATION_SAMPLES:]
            # Paddle's second form saturates where the first does not, and would show nothing that a user gets.
            if model.engine == "paddle-cpu" and not model.chosen:
                continue
            outputs = our_jobs.predict(model.engine, model.path, "int8", evaluated)
            method = f"form {model.form}"
            arithmetic = INT8 if model.chosen else EXACT
            results.append(Measured("ours", model.engine, model.calibration, method, arithmetic, outputs))
            _check(case, model, outputs)
    return results


def _check(case: Case, model: Any, outputs: Outputs) -> None:
    """What the report says of the form that it chose must be what its model gives here."""
    labels = np.array([label for _, label in case.labels()])[CALIBRATION_SAMPLES:]
    here = figures.top1(outputs, labels)
    if model.chosen and abs(here - model.reported["top1"]) > 0.01:
        raise ValueError(f"{model.path}: the report says Top-1 {model.reported['top1']}, its model gives {here}")


def _onnxruntime(case: Case, arrays: list[Array], calibrator: str, method: str) -> list[Measured]:
    from bench import onnxruntime_tool

    with tempfile.TemporaryDirectory(prefix="quantfleet-bench-") as folder:
        target = Path(folder) / "model.onnx"
        samples = arrays[:CALIBRATION_SAMPLES]
        onnxruntime_tool.quantize(case.model, case.input_name, samples, target, calibrator, ORT_METHODS[method])
        return _in_onnxruntime("onnxruntime", target, arrays, calibrator, method)


def _in_onnxruntime(tool: str, model: Path, arrays: list[Array], calibrator: str, method: str) -> list[Measured]:
    from bench import onnxruntime_tool

    evaluated, results = arrays[CALIBRATION_SAMPLES:], []
    for arithmetic in (INT8, EXACT, FLOAT):
        outputs = onnxruntime_tool.predict(model, evaluated, precise=arithmetic == EXACT, simulated=arithmetic == FLOAT)
        results.append(Measured(tool, "onnxruntime-cpu", calibrator, method, arithmetic, outputs))
    return results


def _nncf(case: Case, arrays: list[Array], method: str) -> list[Measured]:
    from bench import nncf_tool

    samples, evaluated = arrays[:CALIBRATION_SAMPLES], arrays[CALIBRATION_SAMPLES:]
    model = nncf_tool.quantize(nncf_tool.read(case.model), samples, NNCF_METHODS[method])
    ways = ((INT8, model), (FLOAT, nncf_tool.in_float(model)))
    return [
        Measured("nncf", "openvino", "nncf", method, arithmetic, nncf_tool.predict(form, evaluated))
        for arithmetic, form in ways
    ]


def _nncf_onnx(case: Case, arrays: list[Array], method: str) -> list[Measured]:
    from bench import nncf_tool

    with tempfile.TemporaryDirectory(prefix="quantfleet-bench-") as folder:
        target = Path(folder) / "model.onnx"
        samples = arrays[:CALIBRATION_SAMPLES]
        nncf_tool.quantize_onnx(case.model, case.input_name, samples, target, NNCF_METHODS[method])
        return _in_onnxruntime("nncf", target, arrays, "nncf", f"{method}, as QDQ ONNX")


def _paddleslim(case: Case, arrays: list[Array], calibrator: str, corrected: bool) -> list[Measured]:
    from bench import paddleslim_tool

    evaluated, results = arrays[CALIBRATION_SAMPLES:], []
    suffix = ", bias_correction" if corrected else ""
    with tempfile.TemporaryDirectory(prefix="quantfleet-bench-") as folder:
        target = Path(folder) / "quantized"
        samples = arrays[:CALIBRATION_SAMPLES]
        paddleslim_tool.quantize(case.model, case.input_name, samples, target, calibrator, bias_correction=corrected)
        ways = (("as it is", INT8, "int8"), ("last layer in float", INT8, "int8-float-fc"), ("", FLOAT, "simulated"))
        for method, arithmetic, precision in ways:
            outputs = paddleslim_tool.predict(target, evaluated, precision=precision)
            name = (method or "as it is") + suffix
            results.append(Measured("paddleslim", "paddle-cpu", calibrator, name, arithmetic, outputs))
    return results


if __name__ == "__main__":
    main()
