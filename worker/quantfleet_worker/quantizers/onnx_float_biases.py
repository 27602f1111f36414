"""Gives a QDQ model's layers their biases in float. Not for biases that are in float already.

A quantizer may write a bias as int32 with a scale of its own. TensorRT's dequantize layer takes 8 bits and less
(NvInfer.h, IDequantizeLayer), and in FP16 such scales, products of two small ones, are 0.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper


def with_float_biases(model: Path, folder: Path) -> Path:
    """The model itself where it has no int32 biases, else a copy in `folder` that has them as float32."""
    if not _dequantized(onnx.load(model, load_external_data=False).graph):
        return model
    content = onnx.load(model)
    graph = content.graph
    constants = {item.name: item for item in graph.initializer}
    integers = _dequantized(graph)
    gone = set().union(*(node.input for node in integers))
    for node in integers:
        values, scale = (numpy_helper.to_array(constants[name]).astype(np.float64) for name in node.input[:2])
        graph.initializer.append(numpy_helper.from_array((values * scale).astype(np.float32), node.output[0]))
        graph.node.remove(node)
    gone -= {name for node in graph.node for name in node.input}
    for name in gone & constants.keys():
        graph.initializer.remove(constants[name])
    out = folder / "float-biases.onnx"
    onnx.save(content, out, save_as_external_data=True, location="float-biases.data")
    return out


def _dequantized(graph: GraphProto) -> list[NodeProto]:
    """The nodes that make float of an int32 constant."""
    integers = {item.name for item in graph.initializer if item.data_type == TensorProto.INT32}
    return [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in integers]
