"""From a scale table to a Paddle INT8 program for oneDNN. Not for choosing scales, nor for running the result.

The program carries `quantize_linear` and `dequantize_linear` operators, symmetric, zero point 0, as
`paddle.static.quantization` writes them; oneDNN's passes turn them into INT8 kernels when the engine loads it.
"""

import contextlib
import importlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quantfleet_domain.calibration.forms import ActivationForm, activation_parameters, weight_scales
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

LEVELS = 127
"""The largest code of a symmetric int8."""
UNSIGNED = ("relu", "relu6")
"""Operators whose outputs Paddle's oneDNN passes store as u8 with 255 levels; all other tensors are s8 with 127."""
TRANSPARENT = ("pool2d", "concat", "reshape2", "transpose2", "flatten_contiguous_range", "nearest_interp_v2")
"""Operators whose output has the type of their input."""
WIDENING = 255 / LEVELS
"""Widens a u8 tensor's range so that its codes end at 127: two products of such a code with an s8 weight fit the 16
bits in which `vpmaddubsw` adds them on a CPU without VNNI; at full range they saturate."""


def quantize(model: Path, table: ScaleTable, target: Path, *, saturates: bool) -> tuple[str, ...]:
    """Write the INT8 form of the Paddle model in directory `model` to directory `target`, under the same file names.

    The table's rows are found by their native names, as `paddle_model.inspect` gave them; its clip ranges are used in
    the form s8-symmetric. `saturates` is true for a CPU whose INT8 dot products add in 16 bits (x86 without VNNI): then
    the ranges of unsigned tensors are widened, see `WIDENING`. The same arguments give the same bytes.

    Convolutions are quantized; matrix products only in a model without convolutions, because in one with them the
    product is the head, and INT8 logits cost more accuracy than they save time.

    Returns the outputs of those of these operators that stay in float because the table lacks their input or weight.
    Raises QuantfleetError: MODEL_NOT_FOUND, MODEL_UNREADABLE, MODEL_UNSUPPORTED (a program that cannot be quantized),
    SCALES_INVALID where nothing of the table is in the model, or a weight has other channels.
    """
    paddle = load_paddle()
    passes = importlib.import_module("paddle.static.quantization")

    files = find_files(model)
    program = normalize(load_program(files))
    thresholds, weights = _thresholds(table), _weight_peaks(table)
    left = []
    kinds = quantizable_kinds(program)
    if not any(
        operator.type in kinds and set(_operands(operator)) <= {*thresholds, *weights} for operator in program.operators
    ):
        raise QuantfleetError(
            ErrorCode.SCALES_INVALID,
            f"the scale table has the input and weight of no {' or '.join(kinds)} of the Paddle model in {model}",
            "calibrate this model, so that its tensors' own names are in the table",
        )
    for operator in program.operators:
        if operator.type not in kinds:
            continue
        activation, weight = _operands(operator)
        if activation in thresholds and weight in weights:
            _check_weight(program, operator, weight, weights[weight])
        elif program.is_parameter(weight):
            left.append(operator.output_arg_names[0])
        if activation not in thresholds or weight not in weights:
            operator._set_attr("op_namescope", "skip_quant")
    ranges = _activation_ranges(program, thresholds, saturates)
    place = paddle.CPUPlace()
    observers = [
        kind
        for kind in passes.quant_config.BaseQuantizer().observer_operation_types
        if kind not in (*PRODUCTS, "softmax")
    ]
    with old_programs(), contextlib.redirect_stderr(io.StringIO()):  # the passes draw progress bars
        graph = paddle.base.framework.IrGraph(paddle.base.core.Graph(program.program.desc), for_test=True)
        passes.QuantizationTransformPassV2(
            scope=program.scope,
            place=place,
            activation_quantize_type="moving_average_abs_max",
            weight_quantize_type="channel_wise_abs_max",
            quantizable_op_type=list(kinds),
            is_test=True,
        ).apply(graph)
        for name, threshold in ranges.items():
            _set_scale(program, name, [threshold])
        for name, peaks in weights.items():
            _set_scale(program, name, peaks)
        passes.QuantWeightPass(program.scope, place).apply(graph)
        passes.AddQuantDequantForInferencePass(
            scope=program.scope,
            place=place,
            quantizable_op_type=[*kinds, *observers],
            calibration_range_dict=ranges,
        ).apply(graph)
        quantized = PaddleProgram(graph.to_program(), program.scope, program.executor, program.feeds, program.fetches)
    target.mkdir(parents=True, exist_ok=True)
    quantized.save(target, files.stem)
    return tuple(left)


def quantizable_kinds(program: PaddleProgram) -> tuple[str, ...]:
    """The operator types that are quantized in this program; see `quantize`."""
    present = {operator.type for operator in program.operators}
    return CONVOLUTIONS if present & set(CONVOLUTIONS) else PRODUCTS


def _operands(operator: Any) -> tuple[str, str]:
    slots = ("Input", "Filter") if operator.type in CONVOLUTIONS else ("X", "Y")
    return operator.input(slots[0])[0], operator.input(slots[1])[0]


def _thresholds(table: ScaleTable) -> dict[str, float]:
    rows = {row.tensor: row for row in table.activations}
    thresholds: dict[str, float] = {}
    for row in table.activations:
        source = rows[row.tied_to or row.tensor]
        parameters = activation_parameters(ActivationForm.S8_SYMMETRIC, source.lo, source.hi)
        if row.native_name is not None:
            thresholds[row.native_name] = float(parameters.scale) * LEVELS
    return thresholds


def _weight_peaks(table: ScaleTable) -> dict[str, Array]:
    return {
        row.native_name: weight_scales(row.absmax, reduce_range=False) * np.float32(LEVELS)
        for row in table.weights
        if row.native_name is not None
    }


def _check_weight(program: PaddleProgram, operator: Any, name: str, peaks: Array) -> None:
    shape = program.parameter(name).shape
    channels = shape[0] if operator.type in CONVOLUTIONS or operator.attr("trans_y") else shape[-1]
    if len(peaks) != channels:
        raise QuantfleetError(
            ErrorCode.SCALES_INVALID,
            f"weight {name} has {channels} output channels, and the scale table has {len(peaks)}",
            "use a scale table made from this model",
        )


def _activation_ranges(program: PaddleProgram, thresholds: Mapping[str, float], saturates: bool) -> dict[str, float]:
    unsigned: set[str] = set()
    for operator in program.operators:
        inputs = [name for name in operator.input_arg_names if not program.is_parameter(name)]
        if operator.type in UNSIGNED or (operator.type in TRANSPARENT and unsigned.issuperset(inputs)):
            unsigned.update(operator.output_arg_names)
    return {
        name: threshold * (WIDENING if saturates and name in unsigned else 1.0)
        for name, threshold in thresholds.items()
        if name not in program.fetches  # what the user reads stays in float
    }


def _set_scale(program: PaddleProgram, name: str, values: Sequence[float] | Array) -> None:
    tensor = program.scope.var(f"{name}@scale").get_tensor()
    tensor.set(np.asarray(values, dtype=np.float32), load_paddle().CPUPlace())
