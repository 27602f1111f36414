"""Reads an ONNX file safely: existence, format, external data, precision. Not for changing the graph."""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, external_data_helper

from quantfleet_domain.errors import ErrorCode, QuantfleetError

_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}


def load(path: Path) -> ModelProto:
    """The FP32 model in the file, with its external data in memory.

    Raises QuantfleetError: MODEL_NOT_FOUND, MODEL_UNREADABLE (not ONNX, truncated, invalid, or with external data
    outside the model's folder), MODEL_UNSUPPORTED (quantized already, or in half precision).
    """
    model = read(path)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise _unreadable(path, f"the ONNX checker refuses it: {str(error).splitlines()[0]}") from error
    _refuse_other_precisions(model, path)
    return model


def read(path: Path) -> ModelProto:
    """A model of any precision, unchecked, with its external data. Raises MODEL_NOT_FOUND, MODEL_UNREADABLE."""
    if not path.is_file():
        raise QuantfleetError(
            ErrorCode.MODEL_NOT_FOUND, f"there is no model file {path}", "check the path of the model"
        )
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise _unreadable(path, f"it is no ONNX file, or a truncated one ({error})") from error
    _load_external_data(model, path)
    return model


def external_files(model: ModelProto, path: Path) -> list[Path]:
    """The files beside `path`, which `model` was read from, that hold its weights, sorted; mostly none.

    Raises QuantfleetError(MODEL_UNREADABLE) for one that is missing, or lies outside the model's folder.
    """
    folder = path.parent.resolve()
    found = set()
    for tensor in external_data_helper._get_all_tensors(model):
        if not external_data_helper.uses_external_data(tensor):
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        target = (folder / location).resolve()
        if not target.is_relative_to(folder):
            raise _unreadable(
                path,
                f"the data of tensor {tensor.name!r} lies outside the model's folder, at {location!r}",
                "put the data file beside the model and save the model again",
            )
        if not target.is_file():
            raise _unreadable(path, f"the data file {location!r} of tensor {tensor.name!r} is missing")
        found.add(target)
    return sorted(found)


def _load_external_data(model: ModelProto, path: Path) -> None:
    external_files(model, path)
    try:
        onnx.load_external_data_for_model(model, str(path.parent.resolve()))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise _unreadable(path, f"its external data cannot be read ({error})") from error


def _refuse_other_precisions(model: ModelProto, path: Path) -> None:
    quantized = next((node for node in model.graph.node if node.op_type in _QUANTIZED), None)
    if quantized is not None:
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"model {path} is quantized already: it has a node {quantized.op_type}",
            "give the FP32 model that it was made from",
        )
    half = next((item for item in model.graph.initializer if item.data_type == TensorProto.FLOAT16), None)
    if half is not None:
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"model {path} is in half precision: weight {half.name!r} is float16",
            "export the model in float32",
        )


def _unreadable(path: Path, problem: str, todo: str = "export the model again, or copy it again") -> QuantfleetError:
    return QuantfleetError(ErrorCode.MODEL_UNREADABLE, f"model {path}: {problem}", todo)
