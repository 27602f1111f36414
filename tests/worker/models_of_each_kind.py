"""A segmenter, two detectors and a text model, so small that what they say is known, and their files."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 8
DEPLOY = """
Deploy:
  model: a
  params: b
  transforms: [{type: Resize, target_size: [8, 8]}, {type: Normalize}]
"""
YOLO = """
arch: YOLOv5
Preprocess:
- {type: LetterBoxResize, target_size: 32}
- {type: NormalizeImage, norm_type: none}
- {type: Permute}
"""
SCALED = """
Preprocess:
- {type: Resize, target_size: [32, 32], keep_ratio: false}
- {type: NormalizeImage, norm_type: none}
- {type: Permute}
"""
KERNEL = np.ones((2, 3, 1, 1), np.float32)


def network(
    nodes: list[Any], inputs: dict[str, tuple[int, list[Any]]], outputs: dict[str, list[Any]], **weights: Any
) -> bytes:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def segmenter() -> bytes:
    """The class of a pixel is its strongest colour: 0 red, 1 green, 2 blue."""
    image = {"x": (TensorProto.FLOAT, ["N", 3, SIDE, SIDE])}
    weight = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    return network(
        [helper.make_node("Conv", ["x", "w"], ["logits"])], image, {"logits": ["N", 3, SIDE, SIDE]}, w=weight
    )


def yolo() -> bytes:
    """One box of class 1, 8 to 24 across and 12 to 20 down in the letterbox, and a better one of no confidence."""
    rows = np.array([[[16, 16, 16, 8, 1, 0, 0.9], [4, 4, 2, 2, 0, 1, 1]]], np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["features"]),
        helper.make_node("ReduceMean", ["features"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["rows", "nothing"], ["output"]),
    ]
    image = {"x": (TensorProto.FLOAT, [1, 3, 32, 32])}
    return network(nodes, image, {"output": [1, 2, 7]}, rows=rows, zero=np.zeros(1, np.float32), w=KERNEL)


def told_its_scale() -> bytes:
    """The same box as PaddleDetection gives it: restored by the model itself, with a count beside it."""
    rows = np.array([[1, 0.9, 8, 8, 24, 24]], np.float32)
    nodes = [
        helper.make_node("Gather", ["scale_factor", "columns"], ["factors"], axis=1),
        helper.make_node("Concat", ["ones", "factors"], ["divisor"], axis=1),
        helper.make_node("Div", ["rows", "divisor"], ["scaled"]),
        helper.make_node("Conv", ["image", "w"], ["features"]),
        helper.make_node("ReduceMean", ["features"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("ReduceSum", ["im_shape"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing_either"]),
        helper.make_node("Add", ["scaled", "nothing"], ["added"]),
        helper.make_node("Add", ["added", "nothing_either"], ["boxes"]),
        helper.make_node("Add", ["one", "nothing"], ["count"]),
    ]
    inputs = {
        "im_shape": (TensorProto.FLOAT, [1, 2]),
        "image": (TensorProto.FLOAT, [1, 3, 32, 32]),
        "scale_factor": (TensorProto.FLOAT, [1, 2]),
    }
    constants = {"rows": rows, "columns": np.array([1, 0, 1, 0]), "ones": np.ones((1, 2), np.float32)}
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    return network(nodes, inputs, {"boxes": [1, 6], "count": [1]}, one=one, zero=zero, w=KERNEL, **constants)


def sentiment() -> bytes:
    """Class 1 where more good words than bad ones are in the text, by the ids of the tokenizer."""
    embedding = np.zeros((7, 4), np.float32)
    embedding[4], embedding[5] = [1, 0, 0, 0], [0, 1, 0, 0]
    head = np.array([[0, 1], [1, 0], [0, 0], [0, 0]], np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["words", "weights"], ["masked"]),
        helper.make_node("ReduceMean", ["masked"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "head"], ["scores"]),
    ]
    inputs = {name: (TensorProto.INT64, ["N", 6]) for name in ("input_ids", "attention_mask")}
    return network(nodes, inputs, {"scores": ["N", 2]}, table=embedding, last=np.array([2]), head=head)
