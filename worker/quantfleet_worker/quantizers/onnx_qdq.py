"""Writes an INT8 ONNX model (QDQ) from the reference graph and a scale table. Not for choosing scales."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto

from quantfleet_domain.calibration.forms import ActivationForm, activation_parameters, weight_scales
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError

from .metadata import FLOAT_KEY, FORM_KEY, SCALES_KEY
from .paired_weights import paired_scales
from .qdq_plan import HEAD, TableQuantizer, WeightSlot, plan, quantized_tensors

FORMS = ("u8s8", "u8s8-paired")
"""u8 affine activations and s8 weights per channel; `-paired` for x86 without VNNI, see `paired_weights`."""


@dataclass(frozen=True)
class QuantizedModel:
    """A written INT8 model: `int8_nodes` are the weighted nodes meant for INT8, `float_nodes` the rest with reasons."""

    path: Path
    sha256: str
    form: str
    int8_nodes: tuple[str, ...]
    float_nodes: tuple[str, ...]


def quantize(reference: Path, table: ScaleTable, form: str, out: Path) -> QuantizedModel:
    """Write the QDQ model of `reference` with the scales of `table` in `form` to `out`.

    The same reference, table and form give the same bytes. Raises QuantfleetError(SCALES_INVALID) where the table lacks
    a tensor that the graph needs or its weights are another model's.
    """
    model = onnx.load(reference)
    activations, slots = quantized_tensors(model)
    rows = {row.tensor: row for row in table.activations}
    missing = [name for name in activations if name not in rows]
    if missing:
        raise _invalid(f"it has no row for activation {missing[0]!r}")
    overrides: dict[str, list[dict[str, object]]] = {}
    for name in activations:
        row = rows[rows[name].tied_to or name]
        parameters = activation_parameters(ActivationForm.U8_AFFINE, row.lo, row.hi)
        overrides[name] = [{"scale": np.array(parameters.scale), "zero_point": np.array(parameters.zero_point)}]
    overrides |= _weight_overrides(model.graph, slots, table, form)
    chosen = plan(model.graph)
    quantizer = TableQuantizer(model, chosen, overrides)
    quantized: ModelProto = quantizer.quantize_model()
    left = tuple(f"{name}: {HEAD}" for name in chosen.weighted if name not in chosen.nodes)
    metadata = {FORM_KEY: form, SCALES_KEY: table.sha256, FLOAT_KEY: "\n".join(left)}
    onnx.helper.set_model_props(quantized, metadata)
    content = quantized.SerializeToString(deterministic=True)
    out.write_bytes(content)
    return QuantizedModel(
        path=out,
        sha256=sha256(content).hexdigest(),
        form=form,
        int8_nodes=tuple(name for name in chosen.weighted if name in chosen.nodes),
        float_nodes=left,
    )


def _weight_overrides(
    graph: GraphProto, slots: tuple[WeightSlot, ...], table: ScaleTable, form: str
) -> dict[str, list[dict[str, object]]]:
    if form not in FORMS:
        raise QuantfleetError(ErrorCode.SCALES_INVALID, f"unknown form {form!r}", f"forms here: {', '.join(FORMS)}")
    rows = {row.tensor: row for row in table.weights}
    overrides: dict[str, list[dict[str, object]]] = {}
    for slot in slots:
        row = rows.get(slot.name)
        if row is None or row.axis != slot.axis or len(row.absmax) != slot.values.shape[slot.axis]:
            raise _invalid(f"its row for weight {slot.name!r} is missing or of another shape")
        scales = weight_scales(row.absmax)
        if form == "u8s8-paired":
            scales = paired_scales(slot.values, slot.axis, scales, _groups(graph, slot.name))
        channels: list[dict[str, object]] = [{"scale": scale, "zero_point": np.int8(0)} for scale in scales]
        channels[0]["axis"] = slot.axis
        overrides[slot.name] = channels
    return overrides


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
