"""The inputs of an ONNX graph as sessions show them. Not for checking what is fed: see `feeds`."""

from typing import Any

import numpy as np
from onnx import ModelProto, helper

from .feeds import Inputs


def read_inputs(model: ModelProto) -> Inputs:
    """Shape (None for an open dimension) and dtype of every input that is no initializer, in the model's order."""
    constants = {item.name for item in model.graph.initializer}
    return {item.name: _facts(item) for item in model.graph.input if item.name not in constants}


def _facts(item: Any) -> tuple[tuple[int | None, ...], np.dtype[Any]]:
    tensor = item.type.tensor_type
    shape = tuple(extent.dim_value if extent.dim_value > 0 else None for extent in tensor.shape.dim)
    return shape, np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
