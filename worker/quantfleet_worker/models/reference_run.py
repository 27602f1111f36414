"""Runs the reference graph and hands out its activations, with the same bits on every worker of a numerics class.

One session with all observed tensors as outputs, batch 1, one thread: which tensors are exposed decides what ONNX
Runtime fuses, and so their bits; the recipe therefore names them all, and no run exposes fewer. Not for timing.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker import onnxruntime_library

ENGINE = "onnxruntime-cpu"
SESSION_OPTIONS: Mapping[str, str] = {
    "graph_optimization_level": "ORT_ENABLE_ALL",
    "execution_mode": "ORT_SEQUENTIAL",
    "intra_op_num_threads": "1",
    "inter_op_num_threads": "1",
}
"""What the reference session is asked for; part of the recipe."""


class ReferenceRun:
    """The instrumented graph in a session of its own. Not thread-safe."""

    def __init__(self, reference: Path, graph: CalibrationGraph) -> None:
        ort = onnxruntime_library.load()
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(
            ort.GraphOptimizationLevel, SESSION_OPTIONS["graph_optimization_level"]
        )
        options.execution_mode = getattr(ort.ExecutionMode, SESSION_OPTIONS["execution_mode"])
        options.intra_op_num_threads = int(SESSION_OPTIONS["intra_op_num_threads"])
        options.inter_op_num_threads = int(SESSION_OPTIONS["inter_op_num_threads"])
        self._graph = graph
        self._inputs = {item.name for item in graph.inputs}
        self._computed = [name for name in graph.activations if name not in self._inputs]
        instrumented = _exposing(onnx.load(reference), self._computed)
        try:
            self._session = ort.InferenceSession(
                instrumented.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no base class but Exception
            raise QuantfleetError(
                ErrorCode.ENGINE_FAILED, f"onnxruntime cannot load the reference graph: {error}"
            ) from error

    def activations(self, feeds: Mapping[str, NDArray[np.float32]]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """The observed tensors of one sample, by name in recipe order: float32, batch 1.

        `feeds` holds an array for every graph input. Raises QuantfleetError(ENGINE_FAILED).
        """
        try:
            values: Sequence[Any] = self._session.run(self._computed, dict(feeds))
        except Exception as error:  # onnxruntime's exceptions share no base class but Exception
            raise QuantfleetError(
                ErrorCode.ENGINE_FAILED, f"onnxruntime cannot run the reference graph: {error}"
            ) from error
        computed = dict(zip(self._computed, values, strict=True))
        for name in self._graph.activations:
            yield name, feeds[name] if name in self._inputs else computed[name]


def engine_version() -> str:
    """The version of the reference engine, for the numerics class."""
    return str(onnxruntime_library.load().__version__)


def _exposing(model: ModelProto, tensors: list[str]) -> ModelProto:
    """The model with `tensors` as its outputs, and its own outputs after them."""
    known = {item.name: item for item in (*model.graph.value_info, *model.graph.output)}
    outputs = [known[name] for name in tensors] + [item for item in model.graph.output if item.name not in tensors]
    copies = [onnx.ValueInfoProto.FromString(item.SerializeToString()) for item in outputs]
    del model.graph.output[:]
    model.graph.output.extend(copies)
    return model
