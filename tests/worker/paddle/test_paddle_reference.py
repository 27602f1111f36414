"""The simulated Paddle form has the scales of the program that is written, whichever network it is."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.models.paddle_pir import load_program
from quantfleet_worker.models.paddle_program import load_paddle
from quantfleet_worker.quantizers.paddle_onednn import FORMS, quantize
from quantfleet_worker.quantizers.simulation import simulated

from .conftest import SHAPE, Calibrated, calibrate, export

LARGEST = {np.dtype(np.uint8): 255.0, np.dtype(np.int8): 127.0}


def joined() -> Any:
    """Concatenations of unsigned and of mixed tensors, pools before and after, and an output that is read on."""
    paddle = load_paddle()
    nn = paddle.nn
    relu = nn.functional.relu

    class Joined(nn.Layer):  # type: ignore[name-defined,misc] # paddle's classes are loaded untyped
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2D(3, 16, 3, 2)
            self.left, self.right = nn.Conv2D(16, 8, 1), nn.Conv2D(16, 8, 3, padding=1)
            self.deep, self.plain = nn.Conv2D(16, 16, 3, groups=16), nn.Conv2D(16, 8, 3)
            self.last = nn.Conv2D(24, 8, 1)

        def forward(self, x: Any) -> Any:
            x = nn.functional.max_pool2d(relu(self.stem(x)), 2)
            x = paddle.concat([relu(self.left(x)), relu(self.right(x))], axis=1)
            x = nn.functional.avg_pool2d(x, 3, 1)
            features = relu(self.deep(x))
            return features, self.last(paddle.concat([features, self.plain(x)], axis=1))

    paddle.seed(9)
    model = Joined()
    model.eval()
    return model


@pytest.fixture(scope="module")
def branching(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Calibrated]:
    folder = tmp_path_factory.mktemp("joined")
    model = export(joined(), folder / "float", (None, *SHAPE[1:]), pir=False)
    return model, calibrate(model, folder)


def check(model: Path, calibrated: Calibrated, form: str, out: Path) -> int:
    """Compare all scales that both sides have; how many these are."""
    quantize(model, calibrated.table, form, out)
    program = load_program(find_files(out))
    found = simulated(form, onnx.load_from_string(calibrated.reference), calibrated.graph, calibrated.table)
    compared = 0
    for name, parameters in found.activations.items():
        native = calibrated.graph.native_names.get(name)
        scale = next((n for n in (f"{native}.read@scale", f"{native}@scale") if program.is_parameter(n)), None)
        if scale is not None:
            peak = float(parameters.scale) * LARGEST[parameters.zero_point.dtype]
            assert program.parameter(scale).item() == pytest.approx(peak, rel=1e-6), name
            compared += 1
    return compared


@pytest.mark.parametrize("form", FORMS)
def test_a_network_with_a_sum_has_the_scales_of_its_program(
    old_model: Path, calibrated: Calibrated, tmp_path: Path, form: str
) -> None:
    assert check(old_model, calibrated, form, tmp_path) >= 4


@pytest.mark.parametrize("form", FORMS)
def test_a_network_with_concatenations_has_the_scales_of_its_program(
    branching: tuple[Path, Calibrated], tmp_path: Path, form: str
) -> None:
    assert check(*branching, form, tmp_path) >= 8


@pytest.mark.parametrize("form", FORMS)
def test_a_network_with_hidden_products_has_the_layers_and_scales_of_its_program(
    classifying: tuple[Path, Calibrated], tmp_path: Path, form: str
) -> None:
    assert check(*classifying, form, tmp_path) >= 3
    assert layers(*classifying, form, tmp_path) == (3, 3)


def test_a_product_without_a_bias_stays_in_float_on_both_sides(tmp_path: Path) -> None:
    nn = load_paddle().nn
    model = nn.Sequential(
        *(nn.Conv2D(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2D(2), nn.Flatten()),
        *(nn.Linear(32, 16, bias_attr=False), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)),
    )
    model.eval()
    old = export(model, tmp_path / "float", (None, *SHAPE[1:]), pir=False)
    assert layers(old, calibrate(old, tmp_path), FORMS[0], tmp_path / "int8") == (2, 2)


def layers(model: Path, calibrated: Calibrated, form: str, out: Path) -> tuple[int, int]:
    """How many layers run in INT8: simulated, and in the program."""
    found = simulated(form, onnx.load_from_string(calibrated.reference), calibrated.graph, calibrated.table)
    return len(found.weights), len(quantize(model, calibrated.table, form, out).int8_nodes)
