"""Writes an INT8 ONNX model (QDQ) from the reference graph and a scale table. Not for choosing scales."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper
from onnxruntime.quantization.onnx_model import ONNXModel

from quantfleet_domain.calibration.correction import FormCorrections
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.calibration.tensorrt_cache import thresholds_of

from .metadata import FLOAT_KEY, FORM_KEY, SCALES_KEY
from .onnx_biases import corrected
from .qdq_plan import HEAD, QdqPlan, TableQuantizer, plan, quantized_under, tensor_names
from .qdq_scales import FORMS as FORMS
from .qdq_scales import SYMMETRIC as SYMMETRIC
from .qdq_scales import QdqScales, qdq_scales


@dataclass(frozen=True)
class QuantizedModel:
    """A written INT8 model: `int8_nodes` are the weighted nodes meant for INT8, `float_nodes` the rest with reasons."""

    path: Path
    sha256: str
    form: str
    int8_nodes: tuple[str, ...]
    float_nodes: tuple[str, ...]


def quantize(
    reference: Path, table: ScaleTable, form: str, out: Path, corrections: FormCorrections | None = None
) -> QuantizedModel:
    """Write the QDQ model of `reference` with the scales of `table` in `form` to `out`.

    Layers get the biases of `corrections`, and those that it excludes stay in float. The same reference, table, form
    and corrections give the same bytes. Raises QuantfleetError(SCALES_INVALID) where the table lacks a tensor that the
    graph needs or its weights are another model's.
    """
    chosen_corrections = corrections or FormCorrections(form, (), ())
    model = corrected(onnx.load(reference), chosen_corrections)
    chosen = plan(model.graph, frozenset(item.layer for item in chosen_corrections.excluded))
    left = _left_in_float(model, chosen, chosen_corrections)
    overrides = _overrides(qdq_scales(model, table, form, chosen))
    quantizer = TableQuantizer(model, chosen, overrides, symmetric=form == SYMMETRIC)
    quantized: ModelProto = quantizer.quantize_model()
    if form in FORMS:  # both are for onnxruntime's own optimizers
        _shield(quantized, frozenset(name for name in chosen.weighted if name not in chosen.nodes))
        _part_biases(quantized.graph, model.graph, chosen)
    ONNXModel(quantized).topological_sort()  # as the format asks; the quantizer appends what it adds
    metadata = {FORM_KEY: form, SCALES_KEY: table.sha256, FLOAT_KEY: "\n".join(left)}
    helper.set_model_props(quantized, metadata)
    content = quantized.SerializeToString(deterministic=True)
    out.write_bytes(content)
    return QuantizedModel(
        path=out,
        sha256=sha256(content).hexdigest(),
        form=form,
        int8_nodes=tuple(name for name in chosen.weighted if name in chosen.nodes),
        float_nodes=left,
    )


def magnitudes(reference: Path, table: ScaleTable) -> dict[str, float]:
    """The largest magnitude of every activation in the INT8 part of a graph, also where it shares the range of another.

    For a calibration cache: TensorRT leaves in float what makes or reads a tensor that has no scale there.
    """
    model, known = onnx.load(reference), thresholds_of(table)
    owners = quantized_under(model, plan(model.graph), symmetric=False).owners
    ranged = (name for name in tensor_names(model.graph) if owners.get(name) in known)
    return {name: known[owners[name]] for name in ranged}


def _left_in_float(model: ModelProto, chosen: QdqPlan, corrections: FormCorrections) -> tuple[str, ...]:
    layers = {node.name: node.output[0] for node in model.graph.node}
    poor = {item.layer: item.sqnr_db for item in corrections.excluded}
    reasons = {
        name: f"excluded: its own SQNR of {poor[layers[name]]} dB is below the limit" if layers[name] in poor else HEAD
        for name in chosen.weighted
        if name not in chosen.nodes
    }
    return tuple(f"{name}: {reason}" for name, reason in reasons.items())


def _shield(quantized: ModelProto, left: frozenset[str]) -> None:
    """Keep onnxruntime from quantizing float weights itself, with one scale per tensor, where it finds quantized inputs
    (core/optimizer/qdq_transformer/weight_bias_quantization.cc): a Clip without limits hides what they are."""
    dequantized = {node.output[0] for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    nodes = []
    for node in quantized.graph.node:
        if node.name in left and node.input[0] in dequantized:
            hidden = f"{node.name}.hidden_input"
            nodes.append(helper.make_node("Clip", [node.input[0]], [hidden], name=f"{node.name}.shield"))
            node.input[0] = hidden
        nodes.append(node)
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del quantized.graph.node[:]
    quantized.graph.node.extend(copies)


def _part_biases(quantized: GraphProto, reference: GraphProto, chosen: QdqPlan) -> None:
    """Give what is added to INT8 products that write float two axes more: onnxruntime makes a Gemm of a MatMul and a
    vector (core/optimizer/matmul_add_fusion.cc), and computes a Gemm with a float bias in float."""
    ranks = {item.name: len(item.type.tensor_type.shape.dim) for item in reference.value_info}
    vectors = {item.name: item for item in reference.initializer if len(item.dims) == 1}
    products = {
        node.output[0]
        for node in reference.node
        if node.op_type == "MatMul" and node.output[0] in chosen.float_outputs and ranks.get(node.output[0], 0) > 2
    }
    for node in quantized.node:
        if node.op_type == "Add" and not products.isdisjoint(node.input):
            for index, name in enumerate(node.input):
                if name in vectors:
                    parted = numpy_helper.to_array(vectors[name]).reshape(1, 1, -1)
                    node.input[index] = f"{name}.{node.name}"
                    quantized.initializer.append(numpy_helper.from_array(parted, node.input[index]))


def _overrides(scales: QdqScales) -> dict[str, list[dict[str, object]]]:
    """The scales as onnxruntime's quantizer takes them."""
    overrides: dict[str, list[dict[str, object]]] = {
        name: [{"scale": np.array(parameters.scale), "zero_point": np.array(parameters.zero_point)}]
        for name, parameters in scales.activations.items()
    }
    for name, weight in scales.weights.items():
        channels: list[dict[str, object]] = [{"scale": scale, "zero_point": np.int8(0)} for scale in weight.scales]
        channels[0]["axis"] = weight.axis
        overrides[name] = channels
    return overrides
