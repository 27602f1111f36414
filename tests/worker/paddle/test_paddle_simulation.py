"""What the simulation of a Paddle form computes, against oneDNN itself."""

from pathlib import Path

import numpy as np
import onnx

from quantfleet_domain.calibration.correction import CHECKPOINTS, Corrections, FormCorrections, quantity
from quantfleet_worker.engines.base import LoadOptions
from quantfleet_worker.engines.paddle_cpu import ENGINE
from quantfleet_worker.models.simulated_run import later_stage
from quantfleet_worker.quantizers.paddle_onednn import FORMS, quantize

from .conftest import Calibrated, pictures

HEADROOM = FORMS[1]  # the form that is exact on every x86


def test_the_simulation_computes_what_onednn_computes(old_model: Path, calibrated: Calibrated, tmp_path: Path) -> None:
    _compare(old_model, calibrated, tmp_path)


def test_so_it_does_where_hidden_products_run_in_int8(classifying: tuple[Path, Calibrated], tmp_path: Path) -> None:
    _compare(*classifying, tmp_path)


def _compare(float_model: Path, calibrated: Calibrated, tmp_path: Path) -> None:
    quantize(float_model, calibrated.table, HEADROOM, tmp_path)
    images = pictures(16, seed=1)
    engines = []
    for model, precision in ((tmp_path, "int8"), (float_model, "fp32")):
        (output,) = ENGINE.load(model, LoadOptions(precision, threads=1)).run({"x": images}).values()
        engines.append(np.asarray(output, np.float64))
    real, exact = engines
    (layer,) = (item for item in calibrated.graph.layers if item.last)
    corrections = Corrections("", 1, {}, (FormCorrections(HEADROOM, (), ()),))
    run = later_stage(
        onnx.load_from_string(calibrated.reference),
        calibrated.graph,
        calibrated.table,
        (HEADROOM,),
        corrections,
        CHECKPOINTS,
    )
    name = calibrated.graph.inputs[0].name
    logits = [run.quantities({name: images[i : i + 1]})[quantity("mean", HEADROOM, layer.output)] for i in range(16)]
    powers = np.exp(np.asarray(logits, np.float64))
    simulated = powers / powers.sum(axis=1, keepdims=True)
    assert np.abs(simulated - real).mean() < 0.7 * np.abs(exact - real).mean()
