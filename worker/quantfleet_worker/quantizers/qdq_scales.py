"""Scales and zero points of the ONNX forms, from a scale table. Not for deciding what is quantized: that is `qdq_plan`.

Both the quantizer and what simulates its models read them here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, numpy_helper

from quantfleet_domain.calibration.forms import (
    ActivationForm,
    QuantizationParameters,
    activation_parameters,
    weight_scales,
)
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError

from .paired_weights import paired_scales
from .qdq_plan import QdqPlan, WeightSlot, plan, quantized_under

FORMS = ("u8s8", "u8s8-paired")
"""u8 affine activations and s8 weights per channel; `-paired` for x86 without VNNI, see `paired_weights`."""
SYMMETRIC = "s8s8"
"""s8 symmetric activations and s8 weights per channel, every zero point 0: what TensorRT takes."""

_U8_MAX = 255


@dataclass(frozen=True, eq=False)
class WeightScales:
    """The scales of an s8 weight, zero point 0: float32 (C,) along `axis` of the float32 `values`."""

    axis: int
    scales: NDArray[np.float32]
    values: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class QdqScales:
    """`activations` has every quantized activation, `weights` every weight that may be quantized, by name."""

    activations: Mapping[str, QuantizationParameters]
    weights: Mapping[str, WeightScales]


def qdq_scales(model: ModelProto, table: ScaleTable, form: str, chosen: QdqPlan) -> QdqScales:
    """What a reference graph is quantized with under a plan.

    Raises QuantfleetError(SCALES_INVALID) for an unknown form, or where the table lacks a tensor that the graph needs
    or its weights are another model's.
    """
    known = (*FORMS, SYMMETRIC)
    if form not in known:
        raise QuantfleetError(ErrorCode.SCALES_INVALID, f"unknown form {form!r}", f"forms here: {', '.join(known)}")
    symmetric = form == SYMMETRIC
    kind = ActivationForm.S8_SYMMETRIC if symmetric else ActivationForm.U8_AFFINE
    rows = {row.tensor: row for row in table.activations}
    wanted, whole = quantized_under(model, chosen, symmetric=symmetric), plan(model.graph)
    # A layer in float may leave a tensor behind it a scale of its own that had the scale of another: that one's.
    otherwise = quantized_under(model, whole, symmetric=symmetric).owners if chosen != whole else wanted.owners
    parameters = {}
    for name, owner in wanted.owners.items():
        row = rows.get(owner) or rows.get(otherwise.get(owner, owner))
        if row is None:
            raise _invalid(f"it has no row for activation {owner!r}")
        source = rows[row.tied_to or row.tensor]
        parameters[name] = activation_parameters(kind, source.lo, source.hi)
    if not symmetric:  # there no Relu or Clip is ever left out
        parameters |= _before_limits(model.graph, parameters)
    return QdqScales(parameters, {slot.name: _weight(model.graph, slot, table, form) for slot in wanted.weights})


def _before_limits(
    graph: GraphProto, parameters: Mapping[str, QuantizationParameters]
) -> dict[str, QuantizationParameters]:
    """The inputs of those Relu and Clip whose outputs have a range beyond their limits, because another tensor shares
    it: they must not be left out, and their inputs get the same parameters."""
    constants = {item.name: item for item in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type not in ("Relu", "Clip") or node.output[0] not in parameters or node.input[0] in parameters:
            continue
        of = parameters[node.output[0]]
        given = [constants.get(name) for name in (*node.input[1:3], "", "")][:2]
        lowest, highest = (float(numpy_helper.to_array(item)) if item is not None else None for item in given)
        lowest = 0.0 if node.op_type == "Relu" else lowest
        scale, zero_point = float(of.scale), int(of.zero_point)
        below = lowest is not None and -zero_point * scale < lowest - scale / 2
        above = highest is not None and (_U8_MAX - zero_point) * scale > highest + scale / 2
        if below or above:
            found[node.input[0]] = of
    return found


def _weight(graph: GraphProto, slot: WeightSlot, table: ScaleTable, form: str) -> WeightScales:
    row = next((item for item in table.weights if item.tensor == slot.name), None)
    if row is None or row.axis != slot.axis or len(row.absmax) != slot.values.shape[slot.axis]:
        raise _invalid(f"its row for weight {slot.name!r} is missing or of another shape")
    scales = weight_scales(row.absmax)
    if form == "u8s8-paired":
        scales = paired_scales(slot.values, slot.axis, scales, _groups(graph, slot.name))
    return WeightScales(slot.axis, scales, slot.values)


def _groups(graph: GraphProto, weight: str) -> int:
    """The group count of the convolutions that use a weight; the smallest where they differ."""
    counts = [
        next((int(item.i) for item in node.attribute if item.name == "group"), 1)
        for node in graph.node
        if weight in node.input
    ]
    return min(counts)


def _invalid(problem: str) -> QuantfleetError:
    return QuantfleetError(
        ErrorCode.SCALES_INVALID, f"the scale table does not fit the model: {problem}", "calibrate this model itself"
    )
