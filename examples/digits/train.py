"""Trains the digit classifier and writes model/digits.onnx and model/paddle/. Not needed to run the example.

    python examples/digits/train.py                  (some ten minutes on two CPU cores; needs paddle2onnx)

The last 500 digits are never seen here. The seed is fixed, but a CPU of another kind trains slightly other weights.
"""

import os

# Paddle reads this when it is imported: save the .pdmodel form, which quantizers accept.
os.environ["FLAGS_enable_pir_api"] = "0"  # noqa: SIM112 - paddle's own spelling

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import paddle
import paddle2onnx
from numpy.typing import NDArray
from paddle import nn
from prepare import Digits, load

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_worker.preprocessing.configuration import parse

HERE = Path(__file__).parent
MODEL = HERE / "model"
SIDE = 64
INPUT = InputTensor("x", (1, 3, SIDE, SIDE), "float32")
PREPROCESS = parse((HERE / "inference_cls.yaml").read_text()).preprocessor((INPUT,))
EPOCHS = 10
BATCH = 32
LEARNING_RATE = 2e-3
SEED = 20


class DigitNet(nn.Layer):
    """Six convolutions, each with batch norm and ReLU: 230,000 parameters, 88 million multiply-adds."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolution(3, 32, stride=2),
            *_convolution(32, 64),
            *_convolution(64, 64),
            nn.MaxPool2D(2),
            *_convolution(64, 80),
            *_convolution(80, 80),
            nn.MaxPool2D(2),
            *_convolution(80, 96),
            nn.AdaptiveAvgPool2D(1),
        )
        self.classifier = nn.Linear(96, 10)

    def forward(self, pictures: paddle.Tensor) -> paddle.Tensor:
        """Return the logits, (n, 10), of pictures (n, 3, 64, 64)."""
        logits: paddle.Tensor = self.classifier(paddle.reshape(self.features(pictures), [-1, 96]))
        return logits


def _convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Layer]:
    """A 3×3 convolution without bias, its batch norm and its ReLU."""
    return [
        nn.Conv2D(inputs, outputs, 3, stride=stride, padding=1, bias_attr=False),
        nn.BatchNorm2D(outputs),
        nn.ReLU(),
    ]


def _augmented(picture: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Turn, scale and shift a picture a little, so that few digits teach many."""
    side = picture.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), random.uniform(-12, 12), random.uniform(0.88, 1.12))
    matrix[:, 2] += random.uniform(-0.08, 0.08, 2) * side
    return np.asarray(cv2.warpAffine(picture, matrix, (side, side)), np.uint8)


def _batch(pictures: list[NDArray[np.uint8]]) -> paddle.Tensor:
    """Bring grey pictures to the net's input, (n, 3, 64, 64) float32, as inference_cls.yaml states."""
    encoded = [cv2.imencode(".png", picture)[1].tobytes() for picture in pictures]
    return paddle.to_tensor(np.concatenate([PREPROCESS(png, "digit").feeds["x"] for png in encoded]))


def _accuracy(net: nn.Layer, digits: Digits) -> float:
    """Top-1 accuracy in percent."""
    net.eval()
    with paddle.no_grad():
        hits: int = sum(
            int(net(_batch([picture])).argmax()) == label
            for picture, label in zip(digits.pictures, digits.labels, strict=True)
        )
    return 100 * hits / len(digits.labels)


def train(digits: Digits) -> DigitNet:
    """Train on `digits` with AdamW under a cosine schedule."""
    paddle.seed(SEED)
    random = np.random.default_rng(SEED)
    net = DigitNet()
    steps = len(digits.labels) // BATCH
    schedule = paddle.optimizer.lr.CosineAnnealingDecay(LEARNING_RATE, EPOCHS * steps)
    optimizer = paddle.optimizer.AdamW(schedule, parameters=net.parameters(), weight_decay=0.02)
    for epoch in range(EPOCHS):
        net.train()
        order = random.permutation(len(digits.labels))
        losses = []
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            pictures = _batch([_augmented(digits.pictures[index], random) for index in chosen])
            loss = nn.functional.cross_entropy(net(pictures), paddle.to_tensor(digits.labels[chosen]))
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            schedule.step()
            losses.append(float(loss))
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {np.mean(losses):.4f}", flush=True)
    return net


def _forget_where_it_was_made(path: Path) -> None:
    """Remove the Python tracebacks, with this machine's paths, that Paddle leaves in some operators of a program."""
    program = paddle.base.core.ProgramDesc(path.read_bytes())
    block = program.block(0)
    for index in range(block.op_size()):
        block.op(index).remove_attr("op_callstack")
    path.write_bytes(program.serialize_to_string())


def export(net: DigitNet) -> None:
    """Save the net, with a softmax behind it, as a Paddle model and as ONNX with its batch norms folded."""
    net.eval()
    prefix = MODEL / "paddle" / "inference"
    spec = [paddle.static.InputSpec([None, 3, SIDE, SIDE], "float32", "x")]
    paddle.jit.save(nn.Sequential(net, nn.Softmax()), str(prefix), input_spec=spec)
    prefix.with_suffix(".pdiparams.info").unlink(missing_ok=True)
    _forget_where_it_was_made(prefix.with_suffix(".pdmodel"))
    path = MODEL / "digits.onnx"
    paddle2onnx.export(
        f"{prefix}.pdmodel", f"{prefix}.pdiparams", str(path), opset_version=17, optimize_tool="None", verbose=False
    )
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC  # folds batch norm, keeps ONNX's ops
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    folded = onnx.load(str(path))
    del folded.opset_import[:]
    folded.opset_import.append(onnx.helper.make_opsetid("", 17))  # ONNX Runtime lists its private domains, unused
    onnx.checker.check_model(folded, full_check=True)
    onnx.save(folded, str(path))


if __name__ == "__main__":
    train_digits, held_back = load()
    trained = train(train_digits)
    export(trained)
    print(f"Top-1: training {_accuracy(trained, train_digits):.2f} %, held back {_accuracy(trained, held_back):.2f} %")
