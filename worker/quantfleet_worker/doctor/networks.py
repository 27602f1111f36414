"""The small networks that the doctor tries engines with, made on the spot. Not for measuring: they are too small.

Both are a few convolutions with a residual sum, pooling and a fully connected layer, with random weights of a fixed
seed; every number in them is made here.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantfleet_worker.models.paddle_program import load_paddle

INPUT = "image"
SHAPE = (1, 3, 32, 32)
_CLASSES = 10
_SEED = 11


def samples(count: int) -> list[NDArray[np.float32]]:
    """Smooth random pictures, float32 [1, 3, 32, 32]."""
    random = np.random.default_rng(_SEED)
    coarse = random.standard_normal((count, 1, 3, 8, 8)).astype(np.float32)
    return [np.kron(picture, np.ones((1, 1, 4, 4), np.float32)) for picture in coarse]


def write_onnx(path: Path) -> None:
    """Write the network as an `.onnx` file with a free batch."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(_SEED)
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, values: NDArray[np.float64]) -> str:
        constants.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def convolution(source: str, name: str, inner: int, outer: int, stride: int) -> str:
        weight = random.standard_normal((outer, inner, 3, 3)) * np.sqrt(2 / (9 * inner))
        inputs = [source, constant(f"{name}.w", weight), constant(f"{name}.b", random.standard_normal(outer) * 0.1)]
        return node("Conv", inputs, name, kernel_shape=[3, 3], pads=[1] * 4, strides=[stride] * 2)

    stem = node("Relu", [convolution(INPUT, "stem", 3, 16, 2)], "stem.relu")
    inner = node("Relu", [convolution(stem, "inner", 16, 16, 1)], "inner.relu")
    summed = node("Relu", [node("Add", [convolution(inner, "outer", 16, 16, 1), stem], "sum")], "sum.relu")
    pooled = node("Flatten", [node("GlobalAveragePool", [summed], "pool")], "flat")
    weight = constant("head.w", random.standard_normal((16, _CLASSES)) * 0.5)
    node("Gemm", [pooled, weight, constant("head.b", random.standard_normal(_CLASSES) * 0.1)], "logits")
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", *SHAPE[1:]])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", _CLASSES])
    graph = helper.make_graph(nodes, "doctor", [image], [logits], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def write_paddle(directory: Path) -> None:
    """Write the network as a Paddle inference model, `.pdmodel`, with a free batch. Needs Paddle 3."""
    paddle = load_paddle()
    nn = paddle.nn

    class Network(nn.Layer):  # type: ignore[name-defined,misc] # paddle's classes are loaded untyped
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2D(3, 16, 3, 2, 1)
            self.inner = nn.Conv2D(16, 16, 3, 1, 1)
            self.outer = nn.Conv2D(16, 16, 3, 1, 1)
            self.pool = nn.AdaptiveAvgPool2D(1)
            self.head = nn.Linear(16, _CLASSES)

        def forward(self, image: Any) -> Any:
            stem = nn.functional.relu(self.stem(image))
            summed = nn.functional.relu(self.outer(nn.functional.relu(self.inner(stem))) + stem)
            return self.head(paddle.flatten(self.pool(summed), 1))

    paddle.seed(_SEED)
    network = Network()
    random = np.random.default_rng(_SEED)
    for name, tensor in network.state_dict().items():
        deviation = 0.1 if name.endswith("bias") else np.sqrt(2 / np.prod(tensor.shape[1:]))
        tensor.set_value((random.standard_normal(tensor.shape) * deviation).astype(np.float32))
    network.eval()
    with paddle.pir_utils.DygraphOldIrGuard():
        specification = paddle.static.InputSpec([None, *SHAPE[1:]], "float32", INPUT)
        paddle.jit.save(network, str(directory / "doctor"), input_spec=[specification])
