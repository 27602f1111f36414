"""The segmentation example: its recipe, its preprocessing and its two FP32 models agree, and its job can be planned."""

import re
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from quantfleet.jobfile.document import read
from quantfleet.jobfile.prepare import prepare as prepare_job
from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_domain.jobs.plan import make_plan
from quantfleet_worker.preprocessing.configuration import parse
from quantfleet_worker.training.pdparams import read_weights
from quantfleet_worker.training.recipe import LoadedRecipe, load_recipe
from quantfleet_worker.training.samples import TrainingSample

EXAMPLE = Path(__file__).parents[2] / "examples" / "segmentation-qat"
TRAIN, EVALUATION = 100, 200
CLASSES = 3


def _prepare(directory: Path, train: int, evaluation: int) -> Path:
    runpy.run_path(str(EXAMPLE / "prepare.py"))["prepare"](directory, train, evaluation)
    return directory


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _prepare(tmp_path_factory.mktemp("pages"), TRAIN, EVALUATION)


@pytest.fixture(scope="module")
def loaded() -> Iterator[LoadedRecipe]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE / "recipe"))
        yield load_recipe("digit_pages", (EXAMPLE / "net.yml").read_text(), frozenset({"digit_pages"}))


def _samples(data: Path, name: str) -> list[TrainingSample]:
    lines = [line.split() for line in (data / f"{name}.txt").read_text().splitlines()]
    folder = data / name
    return [
        TrainingSample(page, (folder / page).read_bytes(), mask=(folder / mask).read_bytes()) for page, mask in lines
    ]


def _inputs_and_masks(data: Path, loaded: LoadedRecipe) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    made = [loaded.recipe.sample(sample, None) for sample in _samples(data, "evaluation")]
    return np.stack([inputs[0] for inputs, _ in made]), np.stack([targets[0] for _, targets in made])


def _predicted(pages: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logits of the FP32 program."""
    from paddle import inference

    model = EXAMPLE / "model" / "paddle" / "inference"
    config = inference.Config(f"{model}.pdmodel", f"{model}.pdiparams")
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(1)
    predictor = inference.create_predictor(config)
    predictor.get_input_handle(predictor.get_input_names()[0]).copy_from_cpu(pages)
    predictor.run()
    return np.asarray(predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu())


def test_fewer_pages_are_the_first_of_more_byte_for_byte(data: Path, tmp_path: Path) -> None:
    few = _prepare(tmp_path, 5, 4)
    names = {path.relative_to(few) for path in few.rglob("*.png")}
    assert len(names) == 2 * (5 + 4)
    assert all((data / name).read_bytes() == (few / name).read_bytes() for name in names)


def test_no_page_for_training_is_evaluated(data: Path) -> None:
    pages = {name: {sample.content for sample in _samples(data, name)} for name in ("train", "evaluation")}
    assert (len(pages["train"]), len(pages["evaluation"])) == (TRAIN, EVALUATION)
    assert not pages["train"] & pages["evaluation"]


def test_the_recipe_and_the_preprocessing_file_make_the_same_tensors(data: Path, loaded: LoadedRecipe) -> None:
    (shape,) = loaded.recipe.inputs.values()
    preprocess = parse((EXAMPLE / "deploy.yaml").read_text()).preprocessor((InputTensor("x", (1, *shape), "float32"),))
    for sample in _samples(data, "evaluation")[:8]:
        (ours,), _ = loaded.recipe.sample(sample, None)
        np.testing.assert_array_equal(preprocess(sample.content, sample.name).feeds["x"][0], ours)


def test_a_page_and_its_mask_are_augmented_together(data: Path, loaded: LoadedRecipe) -> None:
    sample = _samples(data, "train")[0]
    assert sample.mask is not None
    marked = TrainingSample(sample.name, _png(_grey(sample.mask) * 120), mask=sample.mask)
    (page,), (mask,) = loaded.recipe.sample(marked, np.random.default_rng(1))
    (plain,), _ = loaded.recipe.sample(marked, None)
    assert not np.array_equal(page, plain)
    means = [float(page[0][mask == kind].mean()) for kind in np.unique(mask)]
    assert means == sorted(means)
    assert means[-1] - means[0] > 0.5


def test_the_job_plans_a_training_of_each_kind_in_intervals(data: Path, tmp_path: Path) -> None:
    example = tmp_path / "example"
    shutil.copytree(EXAMPLE, example, ignore=shutil.ignore_patterns("data"))
    shutil.copytree(data, example / "data")
    spec = prepare_job(read(example / "job.yaml")).spec
    trainings = {training.method: training for training in spec.models[0].trainings}
    assert trainings["qat"].validate
    assert trainings["qat"].save_interval < trainings["qat"].iterations
    names = [task.id for task in make_plan(spec).tasks]
    assert [name for name in names if "/train/distill/" in name] == ["pages/train/distill/0", "pages/train/distill/1"]
    assert [name for name in names if "/train/qat/" in name] == [f"pages/train/qat/{i}" for i in range(3)]


def test_the_weights_and_the_program_are_one_network(data: Path, loaded: LoadedRecipe) -> None:
    import paddle

    network: Any = loaded.recipe.network()
    weights = read_weights(EXAMPLE / "model" / "page.pdparams")
    network.set_state_dict({name: paddle.to_tensor(values) for name, values in weights.items()})
    network.eval()
    pages, _ = _inputs_and_masks(data, loaded)
    with paddle.no_grad():
        expected = network(paddle.to_tensor(pages[:8])).numpy()
    np.testing.assert_allclose(_predicted(pages[:8]), expected, atol=1e-4)


def test_the_network_segments_pages_that_it_never_saw_as_well_as_the_readme_says(
    data: Path, loaded: LoadedRecipe
) -> None:
    pages, masks = _inputs_and_masks(data, loaded)
    found = _predicted(pages).argmax(axis=1)
    counts = np.bincount((masks * CLASSES + found).ravel(), minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    hits = counts.diagonal()
    miou = 100 * float((hits / (counts.sum(0) + counts.sum(1) - hits)).mean())
    told = re.search(r"mIoU of \*\*([\d.]+) %\*\*", (EXAMPLE / "README.md").read_text())
    assert told is not None
    assert miou == pytest.approx(float(told[1]), abs=0.3)


def test_the_committed_weights_are_small_and_name_no_path_of_the_machine_that_made_them() -> None:
    files = [path for path in (EXAMPLE / "model").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".pdmodel", ".pdiparams", ".pdparams"}
    assert sum(path.stat().st_size for path in files) < 1024 * 1024
    assert not any(b".py" in path.read_bytes() for path in files if path.suffix == ".pdmodel")


def _grey(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)


def _png(grey: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", grey)[1])
