"""Trains the digit detector and writes model/detector.onnx and model/paddle/. Not needed to run the example.

    python examples/detection/train.py               (some minutes on two CPU cores; needs paddle2onnx)

The last 500 digits are never seen here. The seed is fixed, but a CPU of another kind trains slightly other weights.
"""

from pathlib import Path

import cv2
import numpy as np
import paddle
import paddle2onnx
from numpy.typing import NDArray
from paddle import nn
from prepare import Page, load, pages

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_worker.preprocessing.configuration import parse

HERE = Path(__file__).parent
MODEL = HERE / "model"
SIDE, STRIDE, CLASSES = 128, 8, 10
CELLS = SIDE // STRIDE
ANCHOR = 20.0
"""The side of a usual digit in the input, pixels; a box is up to four times as large."""
INPUT = InputTensor("x", (1, 3, SIDE, SIDE), "float32")
PREPROCESS = parse((HERE / "infer_cfg.yml").read_text()).preprocessor((INPUT,))
STEPS = 700
BATCH = 16
LEARNING_RATE = 4e-3
SEED = 20


class Detector(nn.Layer):
    """Seven convolutions, 60,000 parameters: for each of 16×16 cells one box, as YOLOv5 decodes it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolution(3, 16, stride=2),
            *_convolution(16, 24, stride=2),
            *_convolution(24, 24),
            *_convolution(24, 48, stride=2),
            *_convolution(48, 48),
            *_convolution(48, 48),
        )
        self.head = nn.Conv2D(48, 5 + CLASSES, 1)
        rows, columns = np.mgrid[:CELLS, :CELLS].reshape(2, -1).astype(np.float32)
        self.register_buffer("cells", paddle.to_tensor(np.stack([columns, rows], axis=1)[np.newaxis]))

    def logits(self, pictures: paddle.Tensor) -> paddle.Tensor:
        """Return [n, 256, 15] of pictures (n, 3, 128, 128): x, y, width, height, confidence, and each class."""
        maps = paddle.flatten(self.head(self.features(pictures)), 2)
        return paddle.transpose(maps, [0, 2, 1])

    def boxes(self, logits: paddle.Tensor) -> paddle.Tensor:
        """Return [n, 256, 4] of centre, width and height in pixels. Formula: ultralytics/yolov5, models/yolo.py."""
        shares = nn.functional.sigmoid(logits[:, :, :4])
        centres = (shares[:, :, :2] * 2 - 0.5 + self.cells) * STRIDE
        extents = (shares[:, :, 2:] * 2) * (shares[:, :, 2:] * 2) * ANCHOR
        return paddle.concat([centres, extents], axis=2)

    def forward(self, pictures: paddle.Tensor) -> paddle.Tensor:
        """Return YOLOv5's rows, [n, 256, 15]: the box, its confidence and the share of each class."""
        logits = self.logits(pictures)
        return paddle.concat([self.boxes(logits), nn.functional.sigmoid(logits[:, :, 4:])], axis=2)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Layer]:
    """A 3×3 convolution without bias, its batch norm and its ReLU."""
    return [
        nn.Conv2D(inputs, outputs, 3, stride=stride, padding=1, bias_attr=False),
        nn.BatchNorm2D(outputs),
        nn.ReLU(),
    ]


def _input(drawn: list[Page]) -> paddle.Tensor:
    """Bring pages to the net's input, (n, 3, 128, 128) float32, as infer_cfg.yml states."""
    encoded = [cv2.imencode(".png", page.picture)[1].tobytes() for page in drawn]
    return paddle.to_tensor(np.concatenate([PREPROCESS(png, "page").feeds["x"] for png in encoded]))


def _targets(page: Page) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """What the cells shall say: boxes [256, 4] of centre, width and height in the input's pixels, and classes (256,),
    -1 where there is no digit. A digit is told by the cells, four at most, from which its centre can be written."""
    scale = SIDE / max(page.picture.shape)
    margin = (SIDE - scale * np.array(page.picture.shape[::-1])) / 2
    boxes, classes = np.zeros((CELLS * CELLS, 4), np.float32), np.full(CELLS * CELLS, -1, np.int64)
    rows, columns = np.mgrid[:CELLS, :CELLS].reshape(2, -1)
    for corners, label in zip(page.boxes, page.labels, strict=True):
        low, high = corners[:2] * scale + margin, corners[2:] * scale + margin
        column, row = (low + high) / 2 / STRIDE
        chosen = (abs(columns + 0.5 - column) < 0.9) & (abs(rows + 0.5 - row) < 0.9)
        boxes[chosen], classes[chosen] = np.concatenate([(low + high) / 2, high - low]), label
    return boxes, classes


def _loss(net: Detector, drawn: list[Page]) -> paddle.Tensor:
    """Confidence, class and overlap: the last is 1 - IoU (Yu et al., "UnitBox", 2016, without the logarithm)."""
    told = [_targets(page) for page in drawn]
    boxes = paddle.to_tensor(np.stack([box for box, _ in told])).reshape([-1, 4])
    classes = paddle.to_tensor(np.stack([label for _, label in told])).reshape([-1])
    logits = net.logits(_input(drawn))
    there = paddle.nonzero(classes >= 0).flatten()
    found = paddle.gather(net.boxes(logits).reshape([-1, 4]), there)
    flat = logits.reshape([-1, 5 + CLASSES])
    confidence = nn.functional.binary_cross_entropy_with_logits(flat[:, 4], (classes >= 0).astype("float32"))
    wanted = nn.functional.one_hot(paddle.gather(classes, there), CLASSES)
    kind = nn.functional.binary_cross_entropy_with_logits(paddle.gather(flat, there)[:, 5:], wanted)
    overlap = (1 - _iou(found, paddle.gather(boxes, there))).mean()
    return 4 * confidence + 2 * kind + 2 * overlap


def _iou(one: paddle.Tensor, other: paddle.Tensor) -> paddle.Tensor:
    low = paddle.maximum(one[:, :2] - one[:, 2:] / 2, other[:, :2] - other[:, 2:] / 2)
    high = paddle.minimum(one[:, :2] + one[:, 2:] / 2, other[:, :2] + other[:, 2:] / 2)
    shared = _area(nn.functional.relu(high - low))
    return shared / (_area(one[:, 2:]) + _area(other[:, 2:]) - shared)


def _area(extents: paddle.Tensor) -> paddle.Tensor:
    return extents[:, 0] * extents[:, 1]  # the gradient of prod() is no number at zero


def train() -> Detector:
    """Train on pages that are drawn anew for each step, with AdamW under a cosine schedule."""
    paddle.seed(SEED)
    drawing = pages(load()[0], SEED)
    net = Detector()
    schedule = paddle.optimizer.lr.CosineAnnealingDecay(LEARNING_RATE, STEPS)
    optimizer = paddle.optimizer.AdamW(schedule, parameters=net.parameters(), weight_decay=0.02)
    losses = []
    for step in range(1, STEPS + 1):
        loss = _loss(net, [next(drawing) for _ in range(BATCH)])
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        schedule.step()
        losses.append(float(loss))
        if step % 100 == 0:
            print(f"step {step}/{STEPS}: loss {np.mean(losses[-100:]):.4f}", flush=True)
    return net


def export(net: Detector) -> None:
    """Save the net in Paddle 3's own format, and as ONNX."""
    net.eval()
    prefix = MODEL / "paddle" / "inference"
    paddle.jit.save(net, str(prefix), input_spec=[paddle.static.InputSpec([1, 3, SIDE, SIDE], "float32", "x")])
    paddle2onnx.export(
        f"{prefix}.json",
        f"{prefix}.pdiparams",
        str(MODEL / "detector.onnx"),
        opset_version=17,
        optimize_tool="None",
        verbose=False,
    )


if __name__ == "__main__":
    export(train())
