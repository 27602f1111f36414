"""Writes the networks of the job with random weights, and random samples to calibrate with. Downloads nothing.

python prepare.py [DIRECTORY [NAME …]]
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle

IMAGE_NETWORKS = ("mobilenet_v1", "mobilenet_v2", "resnet50", "resnet101", "vgg16", "vgg19")
"""The architectures of the reference's table, as paddle.vision has them."""
IMAGE_SHAPE = (3, 224, 224)
LAYERS, WIDTH, HEADS, INNER, LENGTH, WORDS, CLASSES = 12, 768, 12, 3072, 128, 18000, 2
"""An encoder of Ernie 1.0's size (base): 12 layers of 768 units, on 128 tokens."""
SAMPLES = 8
SEED = 20


class Encoder(paddle.nn.Layer):  # type: ignore[misc] # paddle publishes no types
    """Token ids [N, 128] to class scores [N, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.words = paddle.nn.Embedding(WORDS, WIDTH)
        self.places = self.create_parameter([1, LENGTH, WIDTH])
        layer = paddle.nn.TransformerEncoderLayer(WIDTH, HEADS, INNER, dropout=0.0, activation="gelu")
        self.layers = paddle.nn.TransformerEncoder(layer, LAYERS)
        self.pooler = paddle.nn.Linear(WIDTH, WIDTH)
        self.head = paddle.nn.Linear(WIDTH, CLASSES)

    def forward(self, input_ids: Any) -> Any:
        first = self.layers(self.words(input_ids) + self.places)[:, 0]
        return self.head(paddle.tanh(self.pooler(first)))


def export(network: Any, directory: Path, shape: tuple[int, ...], dtype: str, name: str, *, pir: bool) -> None:
    """Write a network as an inference program: `.pdmodel`, the form that the reference has, or Paddle 3's `.json`."""
    network.eval()
    spec = [paddle.static.InputSpec([None, *shape], dtype, name)]
    with paddle.pir_utils.DygraphPirGuard() if pir else paddle.pir_utils.DygraphOldIrGuard():
        paddle.jit.save(network, str(directory / "inference"), input_spec=spec)


def main(root: Path, wanted: list[str]) -> None:
    """Write what is not there yet."""
    random = np.random.default_rng(SEED)
    for name in (*IMAGE_NETWORKS, "encoder"):
        directory = root / name
        if (wanted and name not in wanted) or (directory / "inference.pdiparams").exists():
            continue
        print(f"writing {name}", flush=True)
        paddle.seed(SEED)
        if name == "encoder":
            # The matrix products of attention have no .pdmodel form in Paddle 3.3.
            export(Encoder(), directory, (LENGTH,), "int64", "input_ids", pir=True)
        else:
            export(getattr(paddle.vision.models, name)(), directory, IMAGE_SHAPE, "float32", "x", pir=False)
    for folder, shape in (("images", IMAGE_SHAPE), ("texts", (LENGTH,))):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(SAMPLES):
            if folder == "images":
                np.save(root / folder / f"{index}.npy", random.standard_normal(shape).astype(np.float32))
            else:
                ids = random.integers(0, WORDS, shape)
                np.savez(root / folder / f"{index}.npz", input_ids=ids)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent / "data", sys.argv[2:])
