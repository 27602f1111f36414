"""Runs simulated quantized networks beside the network as it is: the quantities of one sample. Not for adding them up.

Batch 1, one thread, and no fusion into INT8 kernels, which are another on every kind of CPU. The quantities' names are
those of `quantity`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from quantfleet_domain.calibration.correction import FP32, Corrections, checkpoint, quantity
from quantfleet_domain.calibration.graph import CalibrationGraph, Layer
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_worker.models import reference_session
from quantfleet_worker.models.simulated_graph import SimulatedGraph
from quantfleet_worker.models.simulated_units import units
from quantfleet_worker.quantizers.onnx_biases import corrected
from quantfleet_worker.quantizers.simulation import simulated

SCORED_FORM = "u8s8"
"""The form in which candidate scale tables are compared: all forms share the clip ranges, this one shows them best."""


@dataclass(frozen=True)
class _Quantity:
    """The mean that a quantity is, less another; None stands for 0. `whole` is over the channels too."""

    value: str | None
    less: str | None = None
    whole: bool = False


class SimulatedRun:
    """A simulated graph in a session of its own. Not thread-safe.

    `exponents` gives the unit of each quantity, by name; where there is none, nothing need be run.
    """

    def __init__(
        self, graph: SimulatedGraph, quantities: Mapping[str, _Quantity], exponents: Mapping[str, int]
    ) -> None:
        self.exponents = dict(exponents)
        self._quantities = dict(quantities)
        self._outputs = graph.outputs
        self._session = reference_session.session(graph.model(), _options()) if self._outputs else None

    def quantities(self, feeds: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Every quantity of one sample, float32 (C,) or (1,). `feeds` has an array for every input of the graph.

        Raises QuantfleetError(ENGINE_FAILED).
        """
        if self._session is None:
            return {}
        values = reference_session.run(self._session, list(self._outputs), feeds)
        means = {name: _rows(value) for name, value in zip(self._outputs, values, strict=True)}
        return {name: _vector(item, means) for name, item in self._quantities.items()}


def first_stage(
    reference: ModelProto, graph: CalibrationGraph, table: ScaleTable, forms: Sequence[str]
) -> SimulatedRun:
    """Stage 0 of bias correction: every layer as it is and in each form, on the same FP32 inputs.

    A layer that a form leaves in float has that form's quantities too: its mean, and no error.
    """
    built = SimulatedGraph(reference)
    network = built.network(graph.layers, None)
    found: dict[str, _Quantity] = {}
    chosen = [simulated(form, reference, graph, table) for form in forms]
    for layer in graph.layers:
        value, name = network[layer.output], layer.output
        mean = built.mean(value, layer)
        found[quantity("mean", FP32, name)] = _Quantity(mean)
        found[quantity("signal", FP32, name)] = _Quantity(built.mean(built.square(value), layer), whole=True)
        for form in chosen:
            less = built.difference(layer, form, network)
            error = built.mean(built.square(less), layer) if less else None
            found[quantity("mean", form.name, name)] = _Quantity(mean, built.mean(less, layer) if less else None)
            found[quantity("error", form.name, name)] = _Quantity(error, whole=True)
    return SimulatedRun(built, found, units(reference, graph.layers, [table], found))


def later_stage(
    reference: ModelProto,
    graph: CalibrationGraph,
    table: ScaleTable,
    forms: Sequence[str],
    corrections: Corrections,
    stage: int,
) -> SimulatedRun:
    """Stage 1 and on: the mean outputs at a checkpoint of the quantized networks as corrected so far.

    Raises QuantfleetError(SCALES_INVALID) where the corrections lack a form.
    """
    built = SimulatedGraph(reference)
    found: dict[str, _Quantity] = {}
    for form in forms:
        of_form = corrections.of(form)
        excluded = frozenset(item.layer for item in of_form.excluded)
        layers = [layer for layer in checkpoint(graph, stage) if layer.output not in excluded]
        source = corrected(reference, of_form)
        network = built.network(layers, simulated(form, source, graph, table, excluded), source)
        for layer in layers:
            found[quantity("mean", form, layer.output)] = _Quantity(built.mean(network[layer.output], layer))
    return SimulatedRun(built, found, units(reference, graph.layers, [table], found))


def candidates(reference: ModelProto, graph: CalibrationGraph, tables: Sequence[ScaleTable]) -> SimulatedRun:
    """The last layers of the network in the form of each candidate table, against the network as it is.

    Weights stay in float: the tables differ in activations only, and what rounded weights do to means, which bias
    correction takes out again, would drown the difference.
    """
    built = SimulatedGraph(reference)
    last = [layer for layer in graph.layers if layer.last]
    network = built.network(last, None)
    found = {
        quantity("signal", FP32, layer.output): _Quantity(_mean_square(built, network[layer.output], layer), whole=True)
        for layer in last
    }
    for index, table in enumerate(tables):
        form = replace(simulated(SCORED_FORM, reference, graph, table), weights={})
        other = built.network(last, form)
        for layer in last:
            difference = built.minus(other[layer.output], network[layer.output])
            error = _mean_square(built, difference, layer)
            found[quantity("error", str(index), layer.output)] = _Quantity(error, whole=True)
    return SimulatedRun(built, found, units(reference, last, tables, found))


def _mean_square(built: SimulatedGraph, value: str, layer: Layer) -> str:
    return built.mean(built.square(value), layer)


def _options() -> object:
    options = reference_session.options(optimize=True)
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def _rows(means: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means per channel, (C,), of those of a batch, (N, C, 1, …), whose batch axis may have served another purpose."""
    rows = means.reshape(means.shape[0], -1)
    return rows[0] if len(rows) == 1 else np.asarray(rows.mean(axis=0), np.float32)


def _vector(item: _Quantity, means: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    if item.value is None:
        return np.zeros(1, np.float32)
    value = means[item.value] if item.less is None else means[item.value] - means[item.less]
    return np.array([value.sum(dtype=np.float64) / value.size], np.float32) if item.whole else value
