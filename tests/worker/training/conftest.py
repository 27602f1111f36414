"""Small data sets, a user's package with trained weights, and a model that suffers from being quantized."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.worker.training.recipes import write_package

from quantfleet_worker.models.paddle_program import load_paddle
from quantfleet_worker.training.qat import QatTrainer
from quantfleet_worker.training.recipe import LoadedRecipe, load_recipe
from quantfleet_worker.training.samples import TrainingSample

Array = np.ndarray[Any, np.dtype[Any]]
FEATURES = (1, 4, 8, 8)
PACKAGE = "quantfleet_test_recipes"


@dataclass(frozen=True)
class Pictures:
    """Pictures of four classes by the colour of their left half, which is also their mask."""

    count: int = 24

    def get(self, index: int) -> TrainingSample:
        random, label = np.random.default_rng(index), index % 4
        picture = random.normal(0, 0.3, (3, 16, 16)).astype(np.float32)
        mask = np.zeros((16, 16), np.uint8)
        mask[:, :8] = 1
        picture[label % 3, :, :8] += 1 + label
        return TrainingSample(f"{index}.png", picture.tobytes(), label, mask.tobytes())


@dataclass(frozen=True)
class Inputs:
    """Model inputs without labels: positive, and nothing in the first channel."""

    count: int = 32
    largest: float = 1.0

    def get(self, index: int) -> Mapping[str, Array]:
        values = np.random.default_rng(index).uniform(0, self.largest, FEATURES).astype(np.float32)
        values[:, 0] = 0
        return {"x": values}


def ignore(share: float, line: str) -> None:
    """A report that nobody reads."""


def exported(layer: Any, directory: Path, *, pir: bool) -> Path:
    """The directory, with the inference model of a layer that takes FEATURES."""
    paddle = load_paddle()
    layer.eval()
    guard = paddle.pir_utils.DygraphPirGuard if pir else paddle.pir_utils.DygraphOldIrGuard
    with guard():
        spec = paddle.static.InputSpec([None, *FEATURES[1:]], "float32", "x")
        paddle.jit.save(layer, str(directory / "inference"), input_spec=[spec])
    return directory


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions; the first has large weights for the channel that never has anything, so that the weights which
    matter get few codes."""
    paddle = load_paddle()
    paddle.seed(11)
    nn = paddle.nn
    layer = nn.Sequential(nn.Conv2D(4, 8, 3, 1, 1), nn.ReLU(), nn.Conv2D(8, 6, 3, 2, 1), nn.Flatten())
    weight = layer[0].weight.numpy()
    weight[:, 0] *= 60
    layer[0].weight.set_value(weight)
    return exported(layer, tmp_path_factory.mktemp("teacher"), pir=False)


@dataclass(frozen=True)
class Trained:
    """A user's recipe, and weights that it gave in float."""

    loaded: LoadedRecipe
    weights: Path

    def trainer(self, **changes: Any) -> QatTrainer:
        parameters = {"iters": 10, "batch_size": 4, "learning_rate": 0.002, **changes}
        return QatTrainer(self.loaded, self.weights, **parameters)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A user's package that is installed."""
    folder = tmp_path_factory.mktemp("site")
    write_package(folder, PACKAGE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        load_recipe(PACKAGE, '{"task": "classification"}', frozenset({PACKAGE}))  # imported, it stays
    return PACKAGE


@pytest.fixture(scope="session", params=["classification", "segmentation"])
def trained(request: pytest.FixtureRequest, package: str, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Both kinds of network, trained in float until they are good at their pictures."""
    paddle = load_paddle()
    loaded = load_recipe(package, json.dumps({"task": request.param}), frozenset({package}))
    paddle.seed(3)
    network, recipe, pictures = loaded.recipe.network(), loaded.recipe, Pictures()
    optimizer = paddle.optimizer.Adam(0.01, parameters=network.parameters())
    network.train()
    for step in range(40):
        batch = [recipe.sample(pictures.get((step * 8 + place) % pictures.count), None) for place in range(8)]
        inputs, targets = (paddle.to_tensor(np.stack([side[part][0] for side in batch])) for part in (0, 1))
        recipe.loss(network(inputs), (targets,)).backward()
        optimizer.step()
        optimizer.clear_grad()
    weights = tmp_path_factory.mktemp("weights") / "model.pdparams"
    paddle.save(network.state_dict(), str(weights))
    return Trained(loaded, weights)
