"""Runs quantfleet jobs as a user does, and the models that they leave, for the accuracy benchmark. Not for timing."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from bench.cases import CALIBRATION_SAMPLES, Array, Case
from bench.figures import Outputs

from quantfleet_domain.calibration.calibrators import CALIBRATOR_NAMES, DEFAULT_CALIBRATOR
from quantfleet_worker.engines.base import LoadOptions
from quantfleet_worker.engines.registry import engine_named

Options = Mapping[str, Any]
DEFAULT = f"default ({DEFAULT_CALIBRATOR})"
_CALIBRATORS: dict[str, Options] = {DEFAULT: {}} | {
    name: {"calibrator": name} for name in CALIBRATOR_NAMES if name != DEFAULT_CALIBRATOR
}
CALIBRATIONS: Mapping[str, Options] = {
    **_CALIBRATORS,
    **{f"{name}, no bias correction": {**keys, "bias_correction": False} for name, keys in _CALIBRATORS.items()},
}
"""What a row is called, and what stands in the job file under `calibration` besides the data."""


@dataclass(frozen=True)
class OurModel:
    """One quantized model of a job: its `form`, where it lies, and whether the engine itself chose that form.

    `reported` holds the report's own accuracy in percent by metric, for the chosen form.
    """

    calibration: str
    engine: str
    form: str
    path: Path
    chosen: bool
    reported: Mapping[str, float]


def run_jobs(case: Case, arrays: Sequence[Array], folder: Path) -> list[OurModel]:
    """One job, a model of it for each entry of CALIBRATIONS and each engine; all that they wrote."""
    folder.mkdir(parents=True)
    data = _data(case, arrays, folder)
    engines = ["onnxruntime-cpu"] if case.format == "onnx" else ["onnxruntime-cpu", "paddle-cpu"]
    names = {f"m{number}": name for number, name in enumerate(CALIBRATIONS)}
    models = []
    for model, calibration in names.items():
        chosen = {"data": {**data, "limit": CALIBRATION_SAMPLES}, **CALIBRATIONS[calibration]}
        models.append({"name": model, "path": str(case.model), "calibration": chosen})
    job = {
        "apiVersion": "quantfleet/v1",
        "kind": "Job",
        "name": case.name,
        "models": models,
        "targets": [{"engines": engines}],
        "benchmark": {"modes": []},
        "evaluate": {"data": {**data, "skip": CALIBRATION_SAMPLES}, "metrics": ["top1"]},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job, sort_keys=False))
    command = [str(Path(sys.executable).parent / "quantfleet"), "run", "job.yaml", "--out", "out"]
    log = folder / "log"
    with log.open("wb") as output:
        code = subprocess.run(command, cwd=folder, stdout=output, stderr=output, check=False, env=dict(os.environ))
    if code.returncode:
        raise RuntimeError(f"quantfleet run of {case.name} failed:\n{log.read_text()[-2000:]}")
    report = json.loads((folder / "out" / "report.json").read_text())
    return [
        model
        for result in report["results"]
        if result["precision"] == "int8"
        for model in _written(folder / "out", result, names[result["model"]])
    ]


def predict(engine: str, model: Path, precision: str, arrays: Sequence[Array]) -> Outputs:
    """The first output of a model on one of the product's engines for every array, one at a time, one thread."""
    session = engine_named(engine).load(model, LoadOptions(precision, threads=1))
    name = next(iter(session.inputs))
    return np.concatenate([next(iter(session.run({name: array}).values())).reshape(1, -1) for array in arrays])


def _written(out: Path, result: Mapping[str, Any], calibration: str) -> list[OurModel]:
    runtime = "paddle" if result["engine"] == "paddle-cpu" else "onnx"
    reported = {entry["metric"]: float(entry["value"]) for entry in result["accuracy"]}
    found = []
    for path in sorted((out / result["model"]).glob(f"{runtime}-*")):
        form = path.name.removeprefix(f"{runtime}-")
        model = path if runtime == "paddle" else path / "model.onnx"
        found.append(OurModel(calibration, result["engine"], form, model, form == result["form"], reported))
    return found


def _data(case: Case, arrays: Sequence[Array], folder: Path) -> dict[str, str]:
    """Photographs as they are; what no preprocessing file describes, as tensors."""
    if case.preprocess is not None:
        return {"path": str(case.samples.resolve()), "list": str(case.listed.resolve())}
    tensors = folder / "tensors"
    tensors.mkdir()
    lines = []
    for number, (array, (_, label)) in enumerate(zip(arrays, case.labels(), strict=True)):
        np.save(tensors / f"{number:05}.npy", array)
        lines.append(f"{number:05}.npy {label}\n")
    listed = folder / "tensors.txt"
    listed.write_text("".join(lines))
    return {"path": str(tensors), "list": str(listed)}
