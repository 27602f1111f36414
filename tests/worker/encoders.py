"""Builds a small transformer encoder as exporters write it, and what it is calibrated with. Not a test."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

LENGTH, WIDTH, TOKENS, CLASSES = 12, 32, 50, 4
PRODUCTS = ("query", "key", "value", "output", "widen", "narrow", "classifier")


def encoder() -> onnx.ModelProto:
    """One block behind an embedding: attention with a mask of -10000, layer norms, a GELU made of Erf, a classifier."""
    random = np.random.default_rng(3)
    weights: list[TensorProto] = []
    nodes: list[NodeProto] = []

    def constant(name: str, values: NDArray[np.float32] | NDArray[np.int64]) -> str:
        weights.append(numpy_helper.from_array(values, name))
        return name

    def add(kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def scalar(value: float) -> str:
        return constant(f"scalar_{len(weights)}", np.array(value, np.float32))

    def linear(source: str, name: str, columns: int) -> str:
        rows = 4 * WIDTH if name == "narrow" else WIDTH
        weight = random.standard_normal((rows, columns)).astype(np.float32) / np.float32(np.sqrt(rows))
        nodes.append(helper.make_node("MatMul", [source, constant(f"{name}.w", weight)], [f"{name}.product"], name))
        bias = constant(f"{name}.b", random.standard_normal(columns).astype(np.float32) / 10)
        return add("Add", [f"{name}.product", bias], f"{name}.sum")

    def norm(source: str, name: str) -> str:
        gain, bias = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
        inputs = [source, constant(f"{name}.g", gain), constant(f"{name}.b", bias)]
        return add("LayerNormalization", inputs, name, axis=-1)

    words = constant("words", random.standard_normal((TOKENS, WIDTH)).astype(np.float32))
    stream = add("Gather", [words, "input_ids"], "embedded")
    mask = add("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
    mask = add("Unsqueeze", [mask, constant("axes", np.array([1], np.int64))], "mask_rows")
    hidden = add("Mul", [add("Sub", [mask, scalar(1)], "hidden"), scalar(10000)], "hidden_far")
    normed = norm(stream, "attention_norm")
    query, key, value = (linear(normed, name, WIDTH) for name in PRODUCTS[:3])
    scores = add("MatMul", [query, add("Transpose", [key], "turned", perm=[0, 2, 1])], "scores")
    scaled = add("Add", [add("Mul", [scores, scalar(WIDTH**-0.5)], "scaled"), hidden], "masked")
    mixed = add("MatMul", [add("Softmax", [scaled], "shares", axis=-1), value], "mixed")
    stream = add("Add", [stream, linear(mixed, "output", WIDTH)], "attended")
    wide = linear(norm(stream, "norm"), "widen", 4 * WIDTH)
    error = add("Erf", [add("Div", [wide, scalar(2**0.5)], "divided")], "error")
    gelu = add("Mul", [add("Mul", [wide, add("Add", [error, scalar(1)], "one_more")], "gated"), scalar(0.5)], "gelu")
    stream = add("Add", [stream, linear(gelu, "narrow", WIDTH)], "summed")
    first = add("Gather", [norm(stream, "last_norm"), constant("first", np.array(0, np.int64))], "state", axis=1)
    nodes.append(helper.make_node("Identity", [linear(first, "classifier", CLASSES)], ["logits"], "logits"))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [1, LENGTH]) for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])]
    graph = helper.make_graph(nodes, "encoder", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def token_feeds(count: int, seed: int) -> list[dict[str, NDArray[np.int64]]]:
    """Random texts of 4 tokens up to LENGTH, padded with 0."""
    random = np.random.default_rng(seed)
    feeds = []
    for _ in range(count):
        mask = (np.arange(LENGTH) < random.integers(4, LENGTH + 1)).astype(np.int64)[np.newaxis]
        feeds.append({"input_ids": random.integers(1, TOKENS, (1, LENGTH)) * mask, "attention_mask": mask})
    return feeds
