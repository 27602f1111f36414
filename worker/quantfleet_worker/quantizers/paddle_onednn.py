"""From a scale table to a Paddle INT8 program for oneDNN. Not for choosing scales, nor for running the result.

The program carries `quantize_linear` and `dequantize_linear` operators, symmetric, zero point 0, as
`paddle.static.quantization` writes them; oneDNN's passes turn them into INT8 kernels when the engine loads it.
"""

import contextlib
import importlib
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from quantfleet_domain.calibration.correction import FormCorrections
from quantfleet_domain.calibration.forms import weight_scales
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.models.paddle_normalize import normalize
from quantfleet_worker.models.paddle_pir import load_program
from quantfleet_worker.models.paddle_program import (
    CONVOLUTIONS,
    PRODUCTS,
    Array,
    PaddleProgram,
    load_paddle,
    old_programs,
)
from quantfleet_worker.quantizers.paddle_bias import add_to_biases
from quantfleet_worker.quantizers.paddle_connected import as_convolutions, float_products, reshape_flattened
from quantfleet_worker.quantizers.paddle_ranges import LEVELS, operands, part_outputs, ranges, thresholds

FORMS = ("s8-symmetric", "s8-symmetric-headroom")
"""Symmetric activations and weights per channel; `-headroom` for x86 without VNNI, see `headroom`."""
UNSCALED = "the scale table lacks its input or its weight"


@dataclass(frozen=True)
class QuantizedProgram:
    """A written INT8 program: `int8_nodes` are the operators meant for INT8, by output, `float_nodes` the rest with
    reasons; both of the convolutions and matrix products with constant weights."""

    path: Path
    form: str
    int8_nodes: tuple[str, ...]
    float_nodes: tuple[str, ...]


def quantize(
    model: Path, table: ScaleTable, form: str, out: Path, corrections: FormCorrections | None = None
) -> QuantizedProgram:
    """Write the INT8 form of the Paddle model in directory `model` to directory `out`, under the same file stem.

    The table's rows are found by their native names, as `paddle_model.inspect` gave them. A PIR program becomes an
    old-format one. Convolutions and fully connected layers are quantized, save those that `float_products` names.
    `corrections` are added to the biases of their layers, and the layers that they exclude stay in float; a layer whose
    weight is not one operator's alone is left uncorrected. The same model, table, form and corrections give the same
    bytes.

    Raises QuantfleetError: MODEL_NOT_FOUND, MODEL_UNREADABLE, MODEL_UNSUPPORTED (a program that cannot be quantized),
    SCALES_INVALID for an unknown form, or where the table and the model have nothing in common or differ in channels,
    or where every layer is excluded.
    """
    if form not in FORMS:
        raise QuantfleetError(ErrorCode.SCALES_INVALID, f"unknown form {form!r}", f"forms here: {', '.join(FORMS)}")
    files = find_files(model)
    program = normalize(load_program(files))
    part_outputs(program)
    reshape_flattened(program)
    known, weights = thresholds(program, table), _weight_peaks(table)
    corrections = corrections or FormCorrections(form, (), ())
    native = {row.tensor: row.native_name for row in table.weights}
    excluded = {native.get(layer.weight): layer.sqnr_db for layer in corrections.excluded}
    in_float = float_products(program)
    int8_nodes, float_nodes = [], []
    for operator in program.operators:
        if operator.type not in (*CONVOLUTIONS, *PRODUCTS):
            continue
        (activation, weight), name = operands(operator), operator.output_arg_names[0]
        reason = None
        if name in in_float:
            reason = in_float[name]
        elif activation not in known or weight not in weights:
            reason = UNSCALED
        elif weight in excluded:
            reason = f"excluded: its own SQNR of {excluded[weight]} dB is below the limit"
        if reason is None:
            _check_weight(program, operator, weight, weights[weight])
            int8_nodes.append(name)
            continue
        operator._set_attr("op_namescope", "skip_quant")
        if program.is_parameter(weight):
            float_nodes.append(f"{name}: {reason}")
    if not int8_nodes and excluded:
        raise QuantfleetError(
            ErrorCode.SCALES_INVALID,
            f"every layer of the Paddle model in {model} is excluded from INT8, each for its own SQNR",
            "exclude less, or use the model in float",
        )
    if not int8_nodes:
        raise QuantfleetError(
            ErrorCode.SCALES_INVALID,
            f"the scale table has the input and weight of no layer of the Paddle model in {model}",
            "calibrate this model itself",
        )
    add_to_biases(program, _deltas(corrections, table))
    filters, maps = as_convolutions(program, int8_nodes)
    weights |= {new: weights[name] for name, new in filters.items()}
    known = thresholds(program, table)
    known |= {new: known[name] for name, new in maps.items() if name in known}
    int8_ranges = ranges(program, known, int8_nodes, weights if form == FORMS[1] else None)
    quantized = _insert(program, int8_ranges, weights)
    out.mkdir(parents=True, exist_ok=True)
    quantized.save(out, files.stem)
    return QuantizedProgram(out, form, tuple(int8_nodes), tuple(float_nodes))


def _deltas(corrections: FormCorrections, table: ScaleTable) -> dict[str, Array]:
    """The corrections by the native names of the weights, where a weight is one layer's alone."""
    layers = Counter(layer.weight for layer in (*corrections.layers, *corrections.excluded))
    rows = Counter(row.native_name for row in table.weights)
    native = {row.tensor: row.native_name for row in table.weights if rows[row.native_name] == layers[row.tensor] == 1}
    return {
        name: np.array(layer.delta, np.float32)
        for layer in corrections.layers
        if (name := native.get(layer.weight)) is not None
    }


def _insert(program: PaddleProgram, widths: Mapping[str, float], weights: Mapping[str, Array]) -> PaddleProgram:
    """The program with quantize and dequantize operators and int8 weights; its scope is shared and changed."""
    paddle = load_paddle()
    passes = importlib.import_module("paddle.static.quantization")
    scope, place = program.scope, paddle.CPUPlace()
    observed = passes.quant_config.BaseQuantizer().observer_operation_types
    observers = [kind for kind in observed if kind not in (*PRODUCTS, "softmax")]
    with old_programs(), contextlib.redirect_stderr(io.StringIO()):  # the passes draw progress bars
        graph = paddle.base.framework.IrGraph(paddle.base.core.Graph(program.program.desc), for_test=True)
        passes.QuantizationTransformPassV2(
            scope=scope,
            place=place,
            activation_quantize_type="moving_average_abs_max",
            weight_quantize_type="channel_wise_abs_max",
            quantizable_op_type=list(CONVOLUTIONS),
            is_test=True,
        ).apply(graph)
        for name, threshold in widths.items():
            _set_scale(program, name, np.array([threshold]))
        for name, peaks in weights.items():
            _set_scale(program, name, peaks)
        passes.QuantWeightPass(scope, place).apply(graph)
        passes.AddQuantDequantForInferencePass(
            scope=scope,
            place=place,
            quantizable_op_type=[*CONVOLUTIONS, *observers],
            calibration_range_dict=dict(widths),
        ).apply(graph)
        return replace(program, program=graph.to_program()).in_canonical_order()


def _weight_peaks(table: ScaleTable) -> dict[str, Array]:
    return {
        row.native_name: weight_scales(row.absmax) * np.float32(LEVELS)
        for row in table.weights
        if row.native_name is not None
    }


def _check_weight(program: PaddleProgram, operator: Any, name: str, peaks: Array) -> None:
    shape = program.parameter(name).shape
    channels = shape[0] if operator.type in CONVOLUTIONS else shape[-1]
    if len(peaks) != channels:
        raise QuantfleetError(
            ErrorCode.SCALES_INVALID,
            f"weight {name} has {channels} output channels, and the scale table has {len(peaks)}",
            "use a scale table made from this model",
        )


def _set_scale(program: PaddleProgram, name: str, values: Array) -> None:
    tensor = program.scope.var(f"{name}@scale").get_tensor()
    tensor.set(np.asarray(values, dtype=np.float32), load_paddle().CPUPlace())
