"""A small convolutional Paddle model in both formats, its calibration graph and a scale table of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantfleet_domain.calibration.calibrators import calibrator_named
from quantfleet_domain.calibration.graph import CalibrationGraph, NumericsClass
from quantfleet_domain.calibration.partial import PartialAccumulator
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_worker.models.paddle_model import inspect
from quantfleet_worker.models.paddle_program import load_paddle
from quantfleet_worker.models.reference_run import ReferenceRun

SHAPE = (1, 3, 32, 32)
CLASSES = 10


@dataclass(frozen=True)
class Calibrated:
    reference: bytes
    graph: CalibrationGraph
    table: ScaleTable


def pictures(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    random = np.random.default_rng(seed)
    smooth = random.standard_normal((count, 3, 8, 8)).repeat(4, axis=2).repeat(4, axis=3)
    return np.ascontiguousarray(smooth, dtype=np.float32)


def network() -> Any:
    """Convolutions with and without bias, batch normalisation, a depthwise one, a residual, pooling and a head."""
    paddle = load_paddle()
    nn = paddle.nn

    class Network(nn.Layer):  # type: ignore[name-defined,misc] # paddle's classes are loaded untyped
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2D(3, 16, 3, 2, 1, bias_attr=False), nn.BatchNorm2D(16), nn.ReLU())
            self.depthwise = nn.Sequential(nn.Conv2D(16, 16, 3, 1, 1, groups=16), nn.BatchNorm2D(16), nn.ReLU6())
            self.point = nn.Conv2D(16, 16, 1)
            self.pool = nn.AdaptiveAvgPool2D(1)
            self.head = nn.Linear(16, CLASSES)

        def forward(self, x: Any) -> Any:
            x = self.stem(x)
            x = nn.functional.relu(x + self.point(self.depthwise(x)))
            return nn.functional.softmax(self.head(paddle.flatten(self.pool(x), 1)))

    paddle.seed(7)
    model = Network()
    random = np.random.default_rng(7)
    for name, tensor in model.state_dict().items():
        if name.endswith("_mean"):
            tensor.set_value(random.normal(0, 0.3, tensor.shape).astype(np.float32))
        elif name.endswith("_variance"):
            tensor.set_value(random.uniform(0.5, 2, tensor.shape).astype(np.float32))
        elif name == "head.weight":
            tensor.set_value(random.normal(0, 0.7, tensor.shape).astype(np.float32))
        elif name.endswith("bias"):
            tensor.set_value(random.normal(0, 0.2, tensor.shape).astype(np.float32))
    model.eval()
    return model


def classifier() -> Any:
    """Like VGG: a convolution, then fully connected layers with dropout between them; the last gives logits."""
    paddle = load_paddle()
    nn = paddle.nn
    paddle.seed(3)
    model = nn.Sequential(
        *(nn.Conv2D(3, 16, 3, 2, 1), nn.ReLU(), nn.MaxPool2D(4), nn.Flatten()),
        *(nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(64, CLASSES), nn.Softmax()),
    )
    model.eval()
    return model


def export(layer: Any, directory: Path, shape: tuple[int | None, ...], *, pir: bool) -> Path:
    paddle = load_paddle()
    spec = [paddle.static.InputSpec(list(shape), "float32", "x")]
    guard = paddle.pir_utils.DygraphPirGuard if pir else paddle.pir_utils.DygraphOldIrGuard
    with guard():
        paddle.jit.save(layer, str(directory / "inference"), input_spec=spec)
    return directory


@pytest.fixture(scope="session")
def old_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(network(), tmp_path_factory.mktemp("old"), (None, *SHAPE[1:]), pir=False)


@pytest.fixture(scope="session")
def pir_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(network(), tmp_path_factory.mktemp("pir"), (None, *SHAPE[1:]), pir=True)


def calibrate(model: Path, scratch: Path) -> Calibrated:
    reference, graph = inspect(model, {"x": SHAPE})
    path = scratch / "reference.onnx"
    path.write_bytes(reference)
    run = ReferenceRun(path, graph)
    numerics = NumericsClass("onnxruntime-cpu", "1", "x86-64/avx2", "0" * 64, graph.recipe, "0" * 64, 1)
    statistics = PartialAccumulator(numerics, graph.activations)
    for index, picture in enumerate(pictures(16)):
        statistics.observe(index, str(index), dict(run.activations({"x": picture[None]})))
    calibrator = calibrator_named("absmax")
    table = ScaleTable.build(statistics.partial(), graph, calibrator, manifest="0" * 64, preprocessing="0" * 64)
    return Calibrated(reference, graph, table)


@pytest.fixture(scope="session")
def calibrated(old_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    return calibrate(old_model, tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="session")
def classifying(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Calibrated]:
    folder = tmp_path_factory.mktemp("classifier")
    model = export(classifier(), folder / "float", (None, *SHAPE[1:]), pir=False)
    return model, calibrate(model, folder)
