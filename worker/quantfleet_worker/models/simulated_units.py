"""The units in which quantities of a simulated network are added up. Not for adding up.

They follow from the scale tables and weights alone, so that every worker has the same. A layer's inputs are within its
input's range t, so a channel with weights w and bias b is within t Σ|w| + |b|; and its mean square within K t² Σw² for
K weights, though that needs inputs that are in step with the weights: √K is in the middle between this and inputs that
are not. An error is smaller than a signal, but must not be lost where it is much smaller.
"""

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from onnx import ModelProto, numpy_helper

from quantfleet_domain.calibration.graph import Layer
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.calibration.sums import unit_exponent

_ERROR_TO_SIGNAL = 0.25


def units(
    reference: ModelProto, layers: Iterable[Layer], tables: Sequence[ScaleTable], quantities: Collection[str]
) -> dict[str, int]:
    """The exponent of each quantity's unit, by the name that `quantity` gave it."""
    constants = {item.name: item for item in reference.graph.initializer}
    nodes = {name: node for node in reference.graph.node for name in node.output}
    axes = {row.tensor: row.axis for row in tables[0].weights}
    bounds: dict[str, dict[str, float]] = {}
    for layer in layers:
        node = nodes[layer.output]
        limit = max(_limit(table, reference, node.input[0]) for table in tables)
        weight = numpy_helper.to_array(constants[layer.weight])
        rows = np.moveaxis(weight, axes[layer.weight], 0).reshape(weight.shape[axes[layer.weight]], -1)
        rows = np.abs(rows.astype(np.float64))
        bias = constants.get(node.input[2]) if len(node.input) > 2 else None
        offset = float(np.abs(numpy_helper.to_array(bias)).max()) if bias is not None else 0.0
        mean = limit * float(rows.sum(axis=1).max()) + offset
        signal = limit**2 * float((rows * rows).sum(axis=1).max()) * rows.shape[1] ** 0.5 + offset**2
        bounds[layer.output] = {"mean": mean, "signal": signal, "error": signal * _ERROR_TO_SIGNAL}
    exponents = {}
    for name in quantities:
        what, _, layer_name = name.split(" ", 2)
        exponents[name] = unit_exponent(bounds[layer_name][what])
    return exponents


def _limit(table: ScaleTable, reference: ModelProto, tensor: str) -> float:
    """The largest magnitude within the clip range of a tensor, or of that whose values were moved to make it."""
    rows = {row.tensor: row for row in table.activations}
    producers = {name: node for node in reference.graph.node for name in node.output}
    while tensor not in rows and tensor in producers:
        tensor = producers[tensor].input[0]
    found = [rows[tensor]] if tensor in rows else table.activations
    return max(max(abs(row.lo), abs(row.hi)) for row in found)
