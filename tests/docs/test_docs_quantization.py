"""The page of quantizations says what the engines run and the readers read, and its recipe runs."""

import re
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest
from tests.docs.pages import rows_of, section_of, text_of

from quantfleet_domain.hardware.offers import ENGINES
from quantfleet_domain.jobs.spec import QUANTIZATIONS
from quantfleet_worker.training import act_config
from quantfleet_worker.training.recipe import load_recipe
from quantfleet_worker.training.samples import TrainingSample


def test_every_quantization_is_explained_and_named_in_the_reference() -> None:
    assert sorted(rows_of(section_of("guide/quantization.md", "Quantization"), width=3)) == sorted(QUANTIZATIONS)
    assert sorted(rows_of(section_of("reference/job-file.md", "Quantization"), width=2)) == sorted(QUANTIZATIONS)


def test_the_guide_says_which_engine_runs_which_quantization() -> None:
    section = section_of("guide/quantization.md", "Which engine runs which")
    header, rows = re.findall(r"(?m)^\| engine \|.*", section)[0], rows_of(section)
    assert re.findall(r"`(\w+)`", header) == list(QUANTIZATIONS)
    labels = {"onnx": "ONNX", "paddle": "Paddle", "paddle-lite": "Paddle Lite"}
    for engine, offer in ENGINES.items():
        expected = ["yes" if name in offer.quantizations else "no" for name in QUANTIZATIONS[:-1]]
        own = ", ".join(labels[name] for name in offer.given_formats) if "given" in offer.quantizations else "no"
        assert rows.pop(engine)[1:] == [", ".join(labels[name] for name in offer.formats), *expected, own]
    assert not rows


def test_the_guide_says_of_every_section_of_auto_compression_what_becomes_of_it() -> None:
    rows = rows_of(section_of("guide/quantization.md", "Distill: the files of auto-compression"), width=3)
    assert sorted(rows) == sorted(act_config.SECTIONS)
    examples = re.findall(r"(?ms)^```yaml\n(.*?)^```", text_of("guide/quantization.md"))
    (example,) = [text for text in examples if "apiVersion" not in text]
    assert act_config.parse(example).train_iter


def test_the_recipe_of_the_guide_is_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"(?ms)^```python\n(.*?)^```", text_of("guide/quantization.md"))
    (tmp_path / "my_recipes.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    recipe = load_recipe("my_recipes", "classes: 3\n", frozenset(["my_recipes"])).recipe
    written, picture = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))
    assert written
    (values,), (label,) = recipe.sample(TrainingSample("a.png", picture.tobytes(), 2), np.random.default_rng(0))
    assert (values.shape, values.dtype, int(label)) == (recipe.inputs["x"], np.float32, 2)
    network = recipe.network()
    outputs = network(paddle.to_tensor(values[None]))
    assert outputs.shape == [1, 3]
    recipe.loss(outputs, (paddle.to_tensor(np.array([label])),)).backward()
    recipe.optimizer(network.parameters(), 0.001).step()
