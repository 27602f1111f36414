"""Gives a QDQ model's layers their biases in float. Not for biases that are in float already.

A quantizer may write a bias as int32 with a scale of its own. TensorRT dequantizes 8-bit integers only (operator
DequantizeLinear of its ONNX parser), and in FP16 such scales, products of two small ones, are 0.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper


def with_float_biases(model: Path, folder: Path) -> Path:
    """The model itself where it has no int32 biases, else a copy in `folder` that has them as float32."""
    content = onnx.load(model, load_external_data=False)
    constants = {item.name: item for item in content.graph.initializer}
    wanted = {
        node.name or node.output[0]
        for node in content.graph.node
        if node.op_type == "DequantizeLinear"
        and node.input[0] in constants
        and constants[node.input[0]].data_type == TensorProto.INT32
    }
    if not wanted:
        return model
    whole = onnx.load(model)
    constants = {item.name: item for item in whole.graph.initializer}
    kept = []
    for node in whole.graph.node:
        if (node.name or node.output[0]) not in wanted:
            kept.append(node)
            continue
        integers, scale = (numpy_helper.to_array(constants[name]) for name in node.input[:2])
        bias = (integers.astype(np.float64) * scale.astype(np.float64)).astype(np.float32)
        whole.graph.initializer.append(numpy_helper.from_array(bias, node.output[0]))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del whole.graph.node[:]
    whole.graph.node.extend(copies)
    out = folder / "float-biases.onnx"
    onnx.save(whole, out, save_as_external_data=True, location="float-biases.data")
    return out
