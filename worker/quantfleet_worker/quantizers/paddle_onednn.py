"""From a scale table to a Paddle INT8 program for oneDNN. Not for choosing scales, nor for running the result.

The program carries `quantize_linear` and `dequantize_linear` operators, symmetric, zero point 0, as
`paddle.static.quantization` writes them; oneDNN's passes turn them into INT8 kernels when the engine loads it.
"""

import contextlib
import importlib
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from quantfleet_domain.calibration.correction import FormCorrections
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
from quantfleet_worker.quantizers.paddle_connected import as_convolutions, reshape_flattened
from quantfleet_worker.quantizers.paddle_layers import QuantizedProgram, bias_deltas, choose, weight_peaks
from quantfleet_worker.quantizers.paddle_ranges import output_of, part_outputs, ranges, thresholds

FORMS = ("s8-symmetric", "s8-symmetric-headroom")
"""Symmetric activations and weights per channel; `-headroom` for x86 without VNNI, see `headroom`."""


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
    known, weights = thresholds(program, table), weight_peaks(table)
    corrections = corrections or FormCorrections(form, (), ())
    chosen = choose(program, known, weights, table, corrections, model)
    for operator in program.operators:
        if operator.type in (*CONVOLUTIONS, *PRODUCTS) and output_of(operator) not in chosen.int8:
            operator._set_attr("op_namescope", "skip_quant")
    add_to_biases(program, bias_deltas(corrections, table))
    filters, maps = as_convolutions(program, chosen.int8)
    weights |= {new: weights[name] for name, new in filters.items()}
    known = thresholds(program, table)
    known |= {new: known[name] for name, new in maps.items() if name in known}
    int8_ranges = ranges(program, known, chosen.int8, weights if form == FORMS[1] else None)
    quantized = _insert(program, int8_ranges, weights)
    out.mkdir(parents=True, exist_ok=True)
    quantized.save(out, files.stem)
    return QuantizedProgram(out, form, chosen.int8, chosen.in_float)


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


def _set_scale(program: PaddleProgram, name: str, values: Array) -> None:
    tensor = program.scope.var(f"{name}@scale").get_tensor()
    tensor.set(np.asarray(values, dtype=np.float32), load_paddle().CPUPlace())
