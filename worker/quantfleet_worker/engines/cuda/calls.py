"""Calls into the CUDA runtime through cuda-python, with its errors made ours. Not what is called, or when."""

import importlib
from types import ModuleType
from typing import Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError

_DRIVER_PROBLEMS = ("cudaErrorInsufficientDriver", "cudaErrorNoDevice", "cudaErrorInitializationError")
INSTALL = "pip install quantfleet[tensorrt], or quantfleet[gpu] for ONNX Runtime"


def runtime() -> ModuleType:
    """The module `cuda.bindings.runtime`. Raises QuantfleetError(ENGINE_MISSING) where cuda-python is not installed."""
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise QuantfleetError(ErrorCode.ENGINE_MISSING, f"cuda-python does not load here: {error}", INSTALL) from error


def call(name: str, *arguments: Any) -> Any:
    """What a function of the CUDA runtime gives besides its status: nothing, one value, or a tuple.

    Raises QuantfleetError(ENGINE_FAILED) with the runtime's own text.
    """
    module = runtime()
    status, *results = getattr(module, name)(*arguments)
    if status != module.cudaError_t.cudaSuccess:
        _, text = module.cudaGetErrorString(status)
        said = text.decode() if isinstance(text, bytes) else str(text)
        raise QuantfleetError(ErrorCode.ENGINE_FAILED, f"{name}: {said} ({status.name})", _todo(module, status.name))
    return results[0] if len(results) == 1 else tuple(results) or None


def _todo(module: ModuleType, status: str) -> str:
    if status not in _DRIVER_PROBLEMS:
        return ""
    _, version = module.cudaRuntimeGetVersion()
    return f"the worker needs an NVIDIA GPU and a driver for CUDA {version // 1000}; nvidia-smi shows what is there"
