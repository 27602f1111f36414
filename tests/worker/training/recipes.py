"""A user's training package as tests install it: `write_package` makes one that classifies or segments."""

from pathlib import Path

PACKAGE = """
import json
import numpy as np
import paddle

nn = paddle.nn


class Block(nn.Layer):
    def __init__(self, inner, outer, stride=1):
        super().__init__()
        self.conv = nn.Conv2D(inner, outer, 3, stride, 1, bias_attr=False)
        self.norm = nn.BatchNorm2D(outer)

    def forward(self, x):
        return nn.functional.relu(self.norm(self.conv(x)))


class Classifier(nn.Layer):
    def __init__(self):
        super().__init__()
        self.stem, self.body = Block(3, 8, 2), Block(8, 8)
        self.point = nn.Conv2D(8, 8, 1)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        x = nn.functional.relu(x + self.point(self.body(x)))
        return self.head(self.drop(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)))


class Segmenter(nn.Layer):
    def __init__(self):
        super().__init__()
        self.stem, self.body = Block(3, 8, 2), Block(8, 8)
        self.logits, self.aux = nn.Conv2D(8, 2, 1), nn.Conv2D(8, 2, 1)

    def forward(self, x):
        low = self.stem(x)
        out = [nn.functional.interpolate(self.logits(self.body(low)), size=[16, 16], mode="bilinear")]
        if self.training:
            out.append(nn.functional.interpolate(self.aux(low), size=[16, 16], mode="bilinear"))
        return out


class Recipe:
    inputs = {"x": (3, 16, 16)}
    iters, batch_size, learning_rate = 10, 4, 0.01

    def __init__(self, config):
        self.settings = json.loads(config)
        self.task = self.settings["task"]

    def network(self):
        return Classifier() if self.task == "classification" else Segmenter()

    def sample(self, sample, random):
        if self.settings.get("broken") == "sample":
            raise ValueError("no such picture")
        picture = np.frombuffer(sample.content, np.float32).reshape(3, 16, 16)
        if random is not None and random.random() < 0.5:
            picture = np.ascontiguousarray(picture + random.normal(0, 0.01, picture.shape).astype(np.float32))
        if self.task == "classification":
            return (picture,), (np.int64(sample.label),)
        return (picture,), (np.frombuffer(sample.mask, np.uint8).reshape(16, 16).astype(np.int64),)

    def loss(self, outputs, targets):
        if self.task == "classification":
            return nn.functional.cross_entropy(outputs, targets[0])
        return sum(nn.functional.cross_entropy(output, targets[0], axis=1) for output in outputs)

    def optimizer(self, parameters, learning_rate):
        return paddle.optimizer.Momentum(learning_rate, 0.9, parameters, weight_decay=4e-5)


def recipe(config):
    return Recipe(config)
"""


def write_package(folder: Path, name: str, content: str = PACKAGE) -> None:
    (folder / f"{name}.py").write_text(content)
