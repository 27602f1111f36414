"""Reads an ONNX graph, without its external data, and its inputs as sessions show them. Not for checking a model."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, helper

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models import onnx_file

from .feeds import Inputs


def read(model: Path) -> ModelProto:
    """Raises QuantfleetError: MODEL_NOT_FOUND, MODEL_UNREADABLE, also where weights lie outside the model's folder: the
    runtimes that parse the file themselves would read them there."""
    if not model.is_file():
        raise QuantfleetError(ErrorCode.MODEL_NOT_FOUND, f"there is no model file {model}", "check the model's path")
    try:
        content = onnx.load(model, load_external_data=False)
    except DecodeError as error:
        raise _unreadable(f"{model.name} is no ONNX file: {error}") from error
    if not content.graph.node:  # so it is for an empty file
        raise _unreadable(f"{model.name} has no operators in it")
    onnx_file.external_files(content, model)
    return content


def read_inputs(model: ModelProto) -> Inputs:
    """Shape (None for an open dimension) and dtype of every input that is no initializer, in the model's order."""
    constants = {item.name for item in model.graph.initializer}
    return {item.name: _facts(item) for item in model.graph.input if item.name not in constants}


def external_files(model: Path) -> list[Path]:
    """The files beside an `.onnx` file that hold its weights; mostly none. Raises as `read`."""
    return onnx_file.external_files(read(model), model)


def _facts(item: Any) -> tuple[tuple[int | None, ...], np.dtype[Any]]:
    tensor = item.type.tensor_type
    shape = tuple(extent.dim_value if extent.dim_value > 0 else None for extent in tensor.shape.dim)
    return shape, np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))


def _unreadable(what: str) -> QuantfleetError:
    return QuantfleetError(ErrorCode.MODEL_UNREADABLE, what, "export the model again, or copy it again")
