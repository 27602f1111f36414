"""TensorRT's Python bindings, loaded late, and what its logger says, kept for errors. Not for building or running."""

# TensorRT is not installed where this is checked; tests/opt_in/gpu_types has its signatures.
# pyright: reportMissingImports=false

import importlib
from importlib import metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError

if TYPE_CHECKING:
    import tensorrt as trt

DISTRIBUTIONS = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
"""Under which names `pip` may have brought the module `tensorrt`."""
INSTALL = "pip install quantfleet[tensorrt]; with a driver for CUDA 12, quantfleet[tensorrt-cu12]"
_KEPT = 5


def version() -> str:
    """The installed version, without loading anything. Raises QuantfleetError(ENGINE_MISSING)."""
    for name in DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    raise missing("tensorrt is not installed here")


def load() -> ModuleType:
    """The module `tensorrt`. Raises QuantfleetError(ENGINE_MISSING), naming the library that its bindings lack."""
    try:
        return importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise missing(f"tensorrt does not load here: {error}") from error


def missing(what: str) -> QuantfleetError:
    """The error for a TensorRT that is not there, or not whole."""
    return QuantfleetError(ErrorCode.ENGINE_MISSING, what, INSTALL)


class Log:
    """What TensorRT said at levels `error` and above, last `_KEPT` lines; `logger` is what it takes."""

    def __init__(self, module: Any) -> None:
        self.logger = _logger(module, self)
        self._errors: list[str] = []

    def note(self, message: str) -> None:
        """Keep a message."""
        self._errors = [*self._errors, message][-_KEPT:]

    def errors(self) -> str:
        """The messages so far, joined; to be put into an error of ours."""
        return "; ".join(self._errors) or "TensorRT gave no reason"


def extents(dims: "trt.Dims") -> tuple[int, ...]:
    """A shape as numbers; -1 for an open dimension."""
    return tuple(dims[index] for index in range(len(dims)))


def _logger(module: Any, log: Log) -> "trt.ILogger":
    import tensorrt as trt

    class Logger(trt.ILogger):  # type: ignore[misc] # its base has no type where TensorRT is not installed
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: "trt.ILogger.Severity", msg: str) -> None:
            if severity in (module.ILogger.Severity.INTERNAL_ERROR, module.ILogger.Severity.ERROR):
                log.note(msg)

    return Logger()
