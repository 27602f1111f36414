"""Scales and zero points of the ONNX forms, from a scale table. Not for deciding what is quantized: that is `qdq_plan`.

Both the quantizer and what simulates its models read them here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto

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
    if form not in FORMS:
        raise QuantfleetError(ErrorCode.SCALES_INVALID, f"unknown form {form!r}", f"forms here: {', '.join(FORMS)}")
    rows = {row.tensor: row for row in table.activations}
    wanted, whole = quantized_under(model, chosen), plan(model.graph)
    # A layer in float may leave a tensor behind it a scale of its own that had the scale of another: that one's.
    otherwise = quantized_under(model, whole).owners if chosen != whole else wanted.owners
    parameters = {}
    for name, owner in wanted.owners.items():
        row = rows.get(owner) or rows.get(otherwise.get(owner, owner))
        if row is None:
            raise _invalid(f"it has no row for activation {owner!r}")
        source = rows[row.tied_to or row.tensor]
        parameters[name] = activation_parameters(ActivationForm.U8_AFFINE, source.lo, source.hi)
    return QdqScales(parameters, {slot.name: _weight(model.graph, slot, table, form) for slot in wanted.weights})


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
