"""What an engine computes for a model in one quantized form, as data: for simulating it in float. Not for running it.

Weights are given as the engine multiplies them, on the grid of their int8 scales; activations by the parameters of the
integers they are rounded to wherever they are read. Sums in 32 bits are taken for exact, and biases too.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from quantfleet_domain.calibration.forms import (
    ActivationForm,
    QuantizationParameters,
    activation_parameters,
    weight_scales,
)
from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.quantizers import paddle_onednn, qdq_scales
from quantfleet_worker.quantizers.qdq_plan import WEIGHTED, plan

_FORMS = {"onnx": qdq_scales.FORMS, "paddle": paddle_onednn.FORMS}
_MOVES = ("Flatten", "MaxPool", "Reshape", "Resize", "Squeeze", "Transpose", "Unsqueeze")
"""Operators of one tensor whose values they hand on, so that its range is their output's too."""
_JOINS = ("AveragePool", "Concat", "GlobalAveragePool", *_MOVES)
"""Operators whose outputs are unsigned where all their inputs are."""


@dataclass(frozen=True, eq=False)
class SimulatedForm:
    """`activations` are the tensors that are read quantized, `weights` the dequantized float32 weights of the nodes
    that run in INT8, by the node's output; every other node runs in float."""

    name: str
    activations: Mapping[str, QuantizationParameters]
    weights: Mapping[str, NDArray[np.float32]]


def forms_of(runtimes: tuple[str, ...]) -> tuple[str, ...]:
    """The forms that the quantizers of these runtimes write. Raises QuantfleetError(SCALES_INVALID) for another."""
    unknown = [runtime for runtime in runtimes if runtime not in _FORMS]
    if unknown:
        raise QuantfleetError(
            ErrorCode.SCALES_INVALID,
            f"runtime {unknown[0]!r} has no quantized form that could be simulated",
            f"runtimes here: {', '.join(_FORMS)}",
        )
    return tuple(form for runtime in runtimes for form in _FORMS[runtime])


def simulated(
    form: str, model: ModelProto, graph: CalibrationGraph, table: ScaleTable, excluded: frozenset[str] = frozenset()
) -> SimulatedForm:
    """A reference graph in a quantized form; layers whose output is in `excluded` stay in float.

    Raises QuantfleetError(SCALES_INVALID) for an unknown form, or where the table does not fit the model.
    """
    if form in paddle_onednn.FORMS:
        return _paddle(form, model.graph, graph, table, excluded)
    chosen = plan(model.graph, excluded)
    scales = qdq_scales.qdq_scales(model, table, form, chosen)
    on_grid = {name: _on_grid(item.values, item.axis, item.scales) for name, item in scales.weights.items()}
    int8 = set(chosen.nodes)
    weights = {
        node.output[0]: on_grid[node.input[1]]
        for node in model.graph.node
        if node.name in int8 and node.op_type in WEIGHTED
    }
    return SimulatedForm(form, scales.activations, weights)


def _paddle(
    form: str, graph: GraphProto, calibrated: CalibrationGraph, table: ScaleTable, excluded: frozenset[str]
) -> SimulatedForm:
    ranges = _ranges(graph, table)
    unsigned = _unsigned(graph)
    activations = {
        name: _paddle_parameters(peak, name in unsigned, form)
        for name, peak in ranges.items()
        if name not in calibrated.outputs  # what the user reads stays in float
    }
    rows = {row.tensor: row for row in table.weights if row.native_name is not None}
    constants = {item.name: item for item in graph.initializer}
    weighted = [node for node in graph.node if node.op_type in WEIGHTED and node.input[1] in rows]
    convolutions = [node for node in weighted if node.op_type == "Conv"]
    weights = {}
    for node in convolutions or weighted:
        if node.input[0] in ranges and node.output[0] not in excluded:
            row = rows[node.input[1]]
            values = numpy_helper.to_array(constants[row.tensor])
            weights[node.output[0]] = _on_grid(values, row.axis, weight_scales(row.absmax))
    return SimulatedForm(form, activations, weights)


def _ranges(graph: GraphProto, table: ScaleTable) -> dict[str, float]:
    """The largest magnitudes of the activations that the native model has, and of what only moves their values."""
    rows = {row.tensor: row for row in table.activations}
    ranges: dict[str, float] = {}
    for row in table.activations:
        source = rows[row.tied_to or row.tensor]
        if row.native_name is not None:
            scale = activation_parameters(ActivationForm.S8_SYMMETRIC, source.lo, source.hi).scale
            ranges[row.tensor] = float(scale) * paddle_onednn.LEVELS
    for node in graph.node:
        if node.op_type in _MOVES and node.input[0] in ranges:
            ranges.setdefault(node.output[0], ranges[node.input[0]])
    return ranges


def _unsigned(graph: GraphProto) -> set[str]:
    constants = {item.name: item for item in graph.initializer}
    unsigned: set[str] = set()
    for node in graph.node:
        inputs = [name for name in node.input if name and name not in constants]
        if _rectifies(node, constants) or (node.op_type in _JOINS and unsigned.issuperset(inputs)):
            unsigned.update(node.output)
    return unsigned


def _rectifies(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    if node.op_type == "Clip":
        floor = constants.get(node.input[1]) if len(node.input) > 1 else None
        return floor is not None and float(numpy_helper.to_array(floor)) == 0
    return bool(node.op_type == "Relu")


def _paddle_parameters(peak: float, unsigned: bool, form: str) -> QuantizationParameters:
    if not unsigned:
        return QuantizationParameters(np.float32(peak / paddle_onednn.LEVELS), np.int8(0))
    widened = peak * (paddle_onednn.WIDENING if form == paddle_onednn.FORMS[1] else 1.0)
    return QuantizationParameters(np.float32(widened / np.iinfo(np.uint8).max), np.uint8(0))


def _on_grid(values: NDArray[np.float32], axis: int, scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """A weight after it was rounded to int8, -127 … 127, with these scales along `axis`."""
    steps = scales.reshape([-1 if index == axis else 1 for index in range(values.ndim)])
    return np.asarray(np.clip(np.rint(values / steps), -127, 127) * steps, np.float32)
