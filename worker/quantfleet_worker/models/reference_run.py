"""Runs the reference graph and hands out its activations, with the same bits on every worker of a numerics class.

Batch 1, one thread, in the graph that `blocked_graph` makes. Not for timing, and not the fastest way of counting:
that is `collecting`.
"""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_worker.models import reference_session
from quantfleet_worker.models.blocked_graph import DONE, blocked_graph, unblocked


class ReferenceRun:
    """The graph in a session of its own, with the observed tensors as outputs. Not thread-safe."""

    def __init__(self, reference: Path, graph: CalibrationGraph) -> None:
        inputs = {item.name for item in graph.inputs}
        with tempfile.TemporaryDirectory() as folder:
            blocked = blocked_graph(reference, graph.activations, Path(folder))
            self._places = {name: place for name, place in blocked.places.items() if name not in inputs}
            self._values = sorted({place.value for place in self._places.values()})
            outputs = [helper.make_tensor_value_info(value, TensorProto.FLOAT, None) for value in self._values]
            blocked.model.graph.output.extend(outputs)
            self._session = blocked.session(reference_session.options(optimize=False))
        self._activations = graph.activations
        self._block = blocked.block

    def activations(self, feeds: Mapping[str, NDArray[np.float32]]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """The observed tensors of one sample, by name in recipe order: float32, batch 1.

        `feeds` holds an array for every graph input. Raises QuantfleetError(ENGINE_FAILED).
        """
        for name, values, channels in self._found(feeds):
            yield name, unblocked(values, channels, self._block) if channels else values

    def unordered(self, feeds: Mapping[str, NDArray[np.float32]]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """As `activations`, with each tensor's values in any order and shape: this costs less."""
        for name, values, channels in self._found(feeds):
            padded = channels and values.shape[1] != channels
            yield name, unblocked(values, channels, self._block) if padded else values

    def _found(self, feeds: Mapping[str, NDArray[np.float32]]) -> Iterator[tuple[str, NDArray[np.float32], int]]:
        """Name, values and, where they are blocked, the number of real channels."""
        _, *found = reference_session.run(self._session, [DONE, *self._values], feeds)
        values = dict(zip(self._values, found, strict=True))
        for name in self._activations:
            place = self._places.get(name)
            yield (name, values[place.value], place.channels) if place else (name, feeds[name], 0)
