"""How the reference engine is asked to run, for the same bits on every worker of a numerics class. Not for timing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx import ModelProto

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker import onnxruntime_library

SESSION_OPTIONS: Mapping[str, str] = {
    "graph_optimization_level": "ORT_ENABLE_ALL",
    "instrumentation": "all observed tensors exposed, the optimised graph saved, run again with ORT_DISABLE_ALL",
    "execution_mode": "ORT_SEQUENTIAL",
    "intra_op_num_threads": "1",
    "inter_op_num_threads": "1",
}
"""What decides the bits of the reference run, besides its graph; part of the recipe."""


def engine_version() -> str:
    """The version of the reference engine, for the numerics class."""
    return str(onnxruntime_library.load().__version__)


def options(optimize: bool) -> Any:
    """The session options of a reference run; `optimize` is for the session that saves the optimised graph."""
    ort = onnxruntime_library.load()
    found = ort.SessionOptions()
    level = SESSION_OPTIONS["graph_optimization_level"] if optimize else "ORT_DISABLE_ALL"
    found.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    found.execution_mode = getattr(ort.ExecutionMode, SESSION_OPTIONS["execution_mode"])
    found.intra_op_num_threads = int(SESSION_OPTIONS["intra_op_num_threads"])
    found.inter_op_num_threads = int(SESSION_OPTIONS["inter_op_num_threads"])
    found.log_severity_level = 3  # it warns that a saved graph is for this CPU only, which is where it runs
    return found


def session(model: ModelProto | bytes | Path, wanted: Any) -> Any:
    """An `InferenceSession` of a model, serialised, in a file or neither, with the `wanted` session options.

    Raises QuantfleetError(ENGINE_FAILED).
    """
    ort = onnxruntime_library.load()
    content = model.SerializeToString() if isinstance(model, ModelProto) else model
    try:
        return ort.InferenceSession(content, wanted, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class but Exception
        raise QuantfleetError(
            ErrorCode.ENGINE_FAILED, f"onnxruntime cannot load the reference graph: {error}"
        ) from error


def run(opened: Any, outputs: list[str], feeds: Mapping[str, Any]) -> list[Any]:
    """What the session computes for one sample. Raises QuantfleetError(ENGINE_FAILED)."""
    try:
        values: list[Any] = opened.run(outputs, dict(feeds))
    except Exception as error:  # onnxruntime's exceptions share no base class but Exception
        raise QuantfleetError(
            ErrorCode.ENGINE_FAILED, f"onnxruntime cannot run the reference graph: {error}"
        ) from error
    return values
