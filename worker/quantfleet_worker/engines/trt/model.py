"""What a model's files hold for TensorRT, and the ONNX file that is parsed in their place. Not for building."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from quantfleet_domain.calibration.tensorrt_cache import FILE
from quantfleet_domain.errors import ErrorCode, QuantfleetError

from ..feeds import Inputs
from .plan import BuildPlan, Quantization

_CACHED = ("cache", "native")
"""The forms whose scales are in a calibration cache beside the model."""
_QUANTIZED = "DequantizeLinear"


@dataclass(frozen=True)
class TensorRtModel:
    """An ONNX `network`, its `inputs`, how it is quantized, and the `digest` of all that."""

    network: Path
    cache: bytes | None
    inputs: Inputs
    quantization: Quantization
    digest: str


def open_model(network: Path, form: str) -> TensorRtModel:
    """The model in an `.onnx` file, with its calibration cache where `form` has one.

    Raises QuantfleetError: MODEL_NOT_FOUND, MODEL_UNREADABLE.
    """
    from ..onnx_reading import external_files, read, read_inputs

    content = read(network)
    cache = _cache(network.parent / FILE) if form in _CACHED else None
    quantized = any(node.op_type == _QUANTIZED for node in content.graph.node)
    digest = sha256(network.read_bytes())
    for data in external_files(network):
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


def _cache(path: Path) -> bytes:
    if not path.is_file():
        raise QuantfleetError(
            ErrorCode.MODEL_NOT_FOUND, f"there is no {path.name} beside the model", "calibrate the model again"
        )
    return path.read_bytes()


def shapes_for(
    inputs: Inputs, batch: int, known: Sequence[tuple[str, tuple[int, ...]]]
) -> dict[str, tuple[int, ...]] | None:
    """The input shapes for a batch: those `known`, else the file's; None where it leaves more than the first dimension
    open."""
    if {name for name, _ in known} == inputs.keys():
        return dict(known)
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
