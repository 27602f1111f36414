"""What sessions of ONNX Runtime have in common, whatever they run on. Not for binding, nor for options of a device."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker import onnxruntime_library

from .feeds import Inputs

DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}
"""The numpy type of an input or output, by ONNX Runtime's name for it."""


def module(install: str) -> ModuleType:
    """The module onnxruntime. Raises QuantfleetError(ENGINE_MISSING) that says to `install`."""
    try:
        return onnxruntime_library.load()
    except ImportError as error:
        raise missing("onnxruntime is not installed here", install) from error


def missing(what: str, install: str) -> QuantfleetError:
    """The error for an ONNX Runtime that is not there, or not the right one."""
    return QuantfleetError(ErrorCode.ENGINE_MISSING, what, install)


def existing(model: Path) -> Path:
    """The file itself. Raises QuantfleetError(MODEL_NOT_FOUND)."""
    if not model.is_file():
        raise QuantfleetError(ErrorCode.MODEL_NOT_FOUND, f"there is no model file {model}", "check the model's path")
    return model


def options_with(ort: ModuleType, threads: int, entries: Mapping[str, str]) -> Any:
    """SessionOptions with so many intra-op threads, sequential, at full optimisation, with configuration `entries`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    return options


def opened(ort: ModuleType, model: Path, options: Any, providers: list[Any]) -> Any:
    """An InferenceSession, which does not go on without a provider that fails.

    Raises QuantfleetError(MODEL_UNREADABLE).
    """
    try:
        return ort.InferenceSession(str(model), options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions share no base class but Exception
        raise QuantfleetError(
            ErrorCode.MODEL_UNREADABLE,
            f"onnxruntime cannot load {model.name}: {error}",
            "check the model with onnx.checker, or export it again",
        ) from error


def failed(model: Path, error: Exception) -> QuantfleetError:
    """The error for a run that failed."""
    return QuantfleetError(ErrorCode.ENGINE_FAILED, f"onnxruntime failed on {model.name}: {error}")


def inputs_of(session: Any) -> Inputs:
    """Shape (None for a dynamic dimension) and dtype of every input."""
    return {
        item.name: (
            tuple(extent if isinstance(extent, int) else None for extent in item.shape),
            np.dtype(DTYPES[item.type]),
        )
        for item in session.get_inputs()
    }


def output_shapes(session: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]] | None:
    """The shapes of all outputs for inputs of these `shapes`, or None where those do not settle them."""
    symbols: dict[Any, int] = {
        symbol: extent
        for item in session.get_inputs()
        for symbol, extent in zip(item.shape, shapes[item.name], strict=True)
        if isinstance(symbol, str)
    }
    settled: dict[str, tuple[Any, ...]] = {
        item.name: tuple(symbols.get(extent, extent) for extent in item.shape) for item in session.get_outputs()
    }
    return settled if all(isinstance(extent, int) for shape in settled.values() for extent in shape) else None


def read_back(session: Any) -> dict[str, str]:
    """Providers, threads and optimisation as the session has them."""
    options = session.get_session_options()
    return {
        "providers": ",".join(session.get_providers()),
        "intra_op_num_threads": str(options.intra_op_num_threads),
        "inter_op_num_threads": str(options.inter_op_num_threads),
        "execution_mode": options.execution_mode.name,
        "graph_optimization_level": options.graph_optimization_level.name,
    }
