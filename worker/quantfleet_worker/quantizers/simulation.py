"""What an engine computes for a model in one quantized form, as data: for simulating it in float. Not for running it.

Weights are given as the engine multiplies them, on the grid of their int8 scales; activations by the parameters of the
integers they are rounded to wherever they are read. Sums in 32 bits are taken for exact, and biases too.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from quantfleet_domain.calibration.forms import QuantizationParameters
from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.quantizers import paddle_lite, paddle_onednn, paddle_tensorrt, qdq_scales
from quantfleet_worker.quantizers.paddle_reference import PaddleScales, lite_scales, paddle_scales, tensorrt_scales
from quantfleet_worker.quantizers.qdq_plan import WEIGHTED, plan

_FORMS = {
    "onnx": qdq_scales.FORMS,
    "paddle": paddle_onednn.FORMS,
    "paddle-lite": (paddle_lite.FORM,),
    "paddle-tensorrt": paddle_tensorrt.FORMS,
    "tensorrt": (qdq_scales.SYMMETRIC,),
}


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
        narrow = form == paddle_onednn.FORMS[1]
        found = paddle_scales(model.graph, frozenset(graph.outputs), table, excluded, headroom=narrow)
        return _of_paddle(form, found)
    if form == paddle_lite.FORM:
        return _of_paddle(form, lite_scales(model.graph, table, excluded))
    if form in paddle_tensorrt.FORMS:
        return _of_paddle(form, tensorrt_scales(model.graph, table, excluded))
    chosen = plan(model.graph, excluded)
    scales = qdq_scales.qdq_scales(model, table, form, chosen)
    on_grid = {name: _on_grid(item) for name, item in scales.weights.items()}
    int8 = set(chosen.nodes)
    weights = {
        node.output[0]: on_grid[node.input[1]]
        for node in model.graph.node
        if node.name in int8 and node.op_type in WEIGHTED
    }
    return SimulatedForm(form, scales.activations, weights)


def _of_paddle(form: str, found: PaddleScales) -> SimulatedForm:
    weights = {name: _on_grid(item) for name, item in found.layers.items()}
    return SimulatedForm(form, found.activations, weights)


def _on_grid(weight: qdq_scales.WeightScales) -> NDArray[np.float32]:
    """A weight after it was rounded to int8, -127 … 127."""
    shape = [-1 if index == weight.axis else 1 for index in range(weight.values.ndim)]
    steps = weight.scales.reshape(shape)
    return np.asarray(np.clip(np.rint(weight.values / steps), -127, 127) * steps, np.float32)
