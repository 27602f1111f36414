"""What a model's path holds for TensorRT, and the ONNX file that is parsed in its place. Not for building.

A path is an `.onnx` file, or a folder with one and, beside it, `calibration.cache`.
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError

from ..feeds import Inputs
from .plan import BuildPlan, Quantization

CACHE_NAME = "calibration.cache"
_QUANTIZED = "DequantizeLinear"


@dataclass(frozen=True)
class TensorRtModel:
    """An ONNX `network`, its `inputs`, how it is quantized, and the `digest` of all that."""

    network: Path
    cache: bytes | None
    inputs: Inputs
    quantization: Quantization
    digest: str


def open_model(path: Path) -> TensorRtModel:
    """Raises QuantfleetError: MODEL_NOT_FOUND, MODEL_UNREADABLE."""
    from ..onnx_inputs import read_inputs

    network = _network(path)
    beside = path / CACHE_NAME if path.is_dir() else None
    cache = beside.read_bytes() if beside is not None and beside.is_file() else None
    content = _read(network)
    quantized = any(node.op_type == _QUANTIZED for node in content.graph.node)
    digest = sha256(network.read_bytes())
    for data in _external_files(content, network.parent):
        digest.update(data.read_bytes())
    digest.update(cache or b"")
    quantization = Quantization.QDQ if quantized else Quantization.NONE if cache is None else Quantization.CACHE
    return TensorRtModel(network, cache, read_inputs(content), quantization, digest.hexdigest())


def prepared(model: TensorRtModel, plan: BuildPlan, folder: Path) -> Path:
    """The file to parse: with names for all nodes, biases in float and, if the plan says so, in FP16. It may be the
    model's own file, or lie in `folder`.

    Raises QuantfleetError(MODEL_UNSUPPORTED) for a file that cannot be had in FP16.
    """
    from ...quantizers import onnx_half
    from ...quantizers.onnx_float_biases import with_float_biases
    from ..onnx_products import named

    path = named(model.network, folder)
    if model.quantization is Quantization.QDQ:
        path = with_float_biases(path, folder)
    return onnx_half.converted(path, folder) if plan.half else path


def _network(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob("*.onnx")) if path.is_dir() else []
    if len(found) != 1:
        problem = f"there are {len(found)} .onnx files in {path}" if path.is_dir() else f"there is no model file {path}"
        raise QuantfleetError(ErrorCode.MODEL_NOT_FOUND, problem, "name an .onnx file, or a folder with one")
    return found[0]


def _read(network: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(network, load_external_data=False)
    except DecodeError as error:
        raise QuantfleetError(
            ErrorCode.MODEL_UNREADABLE, f"{network.name} is no ONNX file: {error}", "export the model again"
        ) from error


def _external_files(content: Any, folder: Path) -> list[Path]:
    names = {
        entry.value for tensor in content.graph.initializer for entry in tensor.external_data if entry.key == "location"
    }
    return [folder / name for name in sorted(names)]


def shapes_for(inputs: Inputs, batch: int) -> dict[str, tuple[int, ...]] | None:
    """The input shapes for a batch, or None where more than the first dimension is open."""
    shapes = {name: (batch, *shape[1:]) if shape[:1] == (None,) else shape for name, (shape, _) in inputs.items()}
    settled = {name: tuple(extent for extent in shape if extent is not None) for name, shape in shapes.items()}
    return settled if all(len(settled[name]) == len(shapes[name]) for name in shapes) else None


def numpy_dtype(trt_name: str) -> np.dtype[Any]:
    """The numpy dtype of a TensorRT `DataType`, by name. Raises QuantfleetError(MODEL_UNSUPPORTED) for want of one."""
    if trt_name not in _DTYPES:
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"an output is {trt_name}, which numpy cannot hold",
            "cast it to float in the model",
        )
    return np.dtype(_DTYPES[trt_name])


_DTYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}
"""`tensorrt.nptype` of the Python bindings, 10.16 and 11.4."""
