"""Trains the network in FP32 and writes model/. Not needed to run the example.

    python examples/segmentation-qat/train.py           (some two minutes on two CPU cores; after prepare.py)

The evaluation pages are only judged. The seed is fixed, but a CPU of another kind trains slightly other weights.
"""

import os

# Paddle reads this when it is imported: save the .pdmodel form, which quantizers accept.
os.environ["FLAGS_enable_pir_api"] = "0"  # noqa: SIM112 - paddle's own spelling

from pathlib import Path

import numpy as np
import paddle
from digit_pages import PageRecipe, recipe
from numpy.typing import NDArray

from quantfleet_worker.training.samples import TrainingSample

HERE = Path(__file__).parent
MODEL = HERE / "model"
EPOCHS = 24
BATCH = 32
LEARNING_RATE = 6e-3
SEED = 20


def samples(name: str) -> list[TrainingSample]:
    """Return the pages of NAME.txt with their masks."""
    folder = HERE / "data" / name
    lines = [line.split() for line in (HERE / "data" / f"{name}.txt").read_text().splitlines()]
    return [
        TrainingSample(page, (folder / page).read_bytes(), mask=(folder / mask).read_bytes()) for page, mask in lines
    ]


def _batch(made: PageRecipe, pages: list[TrainingSample], random: np.random.Generator | None) -> list[paddle.Tensor]:
    prepared = [made.sample(page, random) for page in pages]
    return [paddle.to_tensor(np.stack(values)) for values in zip(*((x[0], y[0]) for x, y in prepared), strict=True)]


def train(made: PageRecipe, pages: list[TrainingSample]) -> paddle.nn.Layer:
    """Train with the recipe's own loss and optimizer under a cosine schedule."""
    paddle.seed(SEED)
    random = np.random.default_rng(SEED)
    net = made.network()
    steps = len(pages) // BATCH
    optimizer = made.optimizer(net.parameters(), LEARNING_RATE)
    schedule = paddle.optimizer.lr.CosineAnnealingDecay(LEARNING_RATE, EPOCHS * steps)
    for epoch in range(EPOCHS):
        net.train()
        order = random.permutation(len(pages))
        losses = []
        for step in range(steps):
            chosen = [pages[index] for index in order[step * BATCH : (step + 1) * BATCH]]
            x, y = _batch(made, chosen, random)
            optimizer.set_lr(schedule())
            loss = made.loss(net(x), (y,))
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            schedule.step()
            losses.append(float(loss))
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {np.mean(losses):.4f}", flush=True)
    return net


def mean_iou(made: PageRecipe, net: paddle.nn.Layer, pages: list[TrainingSample]) -> float:
    """Return the mean over classes of intersection over union, in percent, over all pixels of the pages."""
    net.eval()
    counts = np.zeros((made.classes, made.classes), np.int64)
    with paddle.no_grad():
        for page in pages:
            x, y = _batch(made, [page], None)
            found: NDArray[np.int64] = net(x).argmax(axis=1).numpy()
            np.add.at(counts, (y.numpy().ravel(), found.ravel()), 1)
    hits = counts.diagonal()
    return float(100 * (hits / (counts.sum(0) + counts.sum(1) - hits)).mean())


def export(made: PageRecipe, net: paddle.nn.Layer) -> None:
    """Save the weights, from which quantization-aware training starts, and the program that is deployed in FP32."""
    net.eval()
    paddle.save(net.state_dict(), str(MODEL / "page.pdparams"))
    prefix = MODEL / "paddle" / "inference"
    spec = [paddle.static.InputSpec([None, *shape], "float32", name) for name, shape in made.inputs.items()]
    paddle.jit.save(net, str(prefix), input_spec=spec)
    prefix.with_suffix(".pdiparams.info").unlink(missing_ok=True)
    _forget_where_it_was_made(prefix.with_suffix(".pdmodel"))


def _forget_where_it_was_made(path: Path) -> None:
    """Remove the Python tracebacks, with this machine's paths, that Paddle leaves in some operators of a program."""
    program = paddle.base.core.ProgramDesc(path.read_bytes())
    block = program.block(0)
    for index in range(block.op_size()):
        block.op(index).remove_attr("op_callstack")
    path.write_bytes(program.serialize_to_string())


if __name__ == "__main__":
    page_recipe = recipe((HERE / "net.yml").read_text())
    train_pages, held_back = samples("train"), samples("evaluation")
    trained = train(page_recipe, train_pages)
    export(page_recipe, trained)
    figures = [mean_iou(page_recipe, trained, pages) for pages in (train_pages, held_back)]
    print(f"mIoU: training {figures[0]:.2f} %, held back {figures[1]:.2f} %")
