"""From a scale table to a Paddle program that Paddle Lite's `opt` takes. Not for choosing scales, nor for running opt.

Every INT8 layer reads its activation through a `quantize_linear` and a `dequantize_linear` that share scale and zero
point, and its int8 weight through a `dequantize_linear`: the pattern that Lite's `lite_quant_dequant_fuse_pass` takes
for an INT8 kernel (lite/core/optimizer/mir/fusion/quant_dequant_op_fuser.cc of 2.13). What Paddle's own passes write
has such a pair twice for a tensor with two kinds of readers, and of that `opt` makes nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from quantfleet_domain.calibration.correction import FormCorrections
from quantfleet_domain.calibration.forms import weight_scales
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_worker.models.paddle_extras import restore_extras
from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.models.paddle_normalize import normalize
from quantfleet_worker.models.paddle_pir import load_program
from quantfleet_worker.models.paddle_program import CONVOLUTIONS, Array, PaddleProgram, old_programs
from quantfleet_worker.quantizers.paddle_bias import add_to_biases
from quantfleet_worker.quantizers.paddle_layers import QuantizedProgram, bias_deltas, choose, weight_peaks
from quantfleet_worker.quantizers.paddle_ranges import LEVELS, operands, output_of, thresholds

FORM = "s8-symmetric"
"""Symmetric activations per tensor and weights per channel, zero point 0."""
_BITS = 8
_PER_TENSOR = -1


def quantize(model: Path, table: ScaleTable, out: Path, corrections: FormCorrections | None = None) -> QuantizedProgram:
    """Write the INT8 program of the Paddle model in directory `model` to directory `out`, under the same file stem.

    Layers, scales and corrections are those of `paddle_onednn.quantize`; only the inputs and weights of the INT8 layers
    are quantized, in the old program format. Lite computes the scale of what it reads as a float32 division by 127, and
    what stands here is what gives the table's own scale by it, to the bit. The same arguments give the same bytes.

    Raises QuantfleetError: MODEL_NOT_FOUND, MODEL_UNREADABLE, MODEL_UNSUPPORTED (a program that cannot be quantized),
    SCALES_INVALID where the table and the model have nothing in common or differ in channels, or where every layer is
    excluded.
    """
    files = find_files(model)
    program = normalize(load_program(files))
    known, weights = thresholds(program, table), weight_peaks(table)
    corrections = corrections or FormCorrections(FORM, (), ())
    chosen = choose(program, known, weights, table, corrections, model)
    add_to_biases(program, bias_deltas(corrections, table))
    scales = {row.native_name: weight_scales(row.absmax) for row in table.weights}
    layers = [operator for operator in program.operators if output_of(operator) in chosen.int8]
    with old_programs():
        for layer in layers:
            _quantize_input(program, layer, known)
        for layer in layers:
            _quantize_weight(program, layer, scales[operands(layer)[1]])
    restore_extras(program)
    out.mkdir(parents=True, exist_ok=True)
    program.save(out, files.stem, keep_extra=True)
    return QuantizedProgram(out, FORM, chosen.int8, chosen.in_float)


def written_threshold(scale: np.float32) -> np.float32:
    """The float32 that, divided by 127 as float32, gives this scale of a range; the nearest to it where none does."""
    nearest = np.float32(float(scale) * LEVELS)
    for candidate in (nearest, np.nextafter(nearest, np.float32(0)), np.nextafter(nearest, np.float32(np.inf))):
        if candidate / np.float32(LEVELS) == scale:
            return np.float32(candidate)
    return nearest


def _quantize_input(program: PaddleProgram, layer: Any, known: Mapping[str, float]) -> None:
    block, name = program.program.global_block(), operands(layer)[0]
    codes, values = f"{name}.quantized", f"{name}.quantized.dequantized"
    if not block.has_var(values):
        scale = np.float32(known[name] / LEVELS)
        constants = _constants(program, name, np.array([written_threshold(scale)]))
        index = block.ops.index(layer)
        for place, (kind, source, output) in enumerate((("quantize", name, codes), ("dequantize", codes, values))):
            block.create_var(name=output, shape=block.var(name).shape, dtype="float32", persistable=False)
            _insert(block, index + place, f"{kind}_linear", {"X": [source], **constants}, output, _PER_TENSOR)
    layer._rename_input(name, values)


def _quantize_weight(program: PaddleProgram, layer: Any, scales: Array) -> None:
    block, name = program.program.global_block(), operands(layer)[1]
    values = f"{name}.dequantized"
    if not block.has_var(values):
        axis = 0 if layer.type in CONVOLUTIONS else 1
        constants = _constants(program, name, np.array([written_threshold(scale) for scale in scales]))
        block.create_var(name=values, shape=block.var(name).shape, dtype="float32", persistable=False)
        floats = program.parameter(name)
        aligned = scales.reshape([-1 if place == axis else 1 for place in range(floats.ndim)])
        program.set_parameter(name, np.clip(np.rint(floats / aligned), -LEVELS, LEVELS), "int8")
        _insert(block, 0, "dequantize_linear", {"X": [name], **constants}, values, axis)
    layer._rename_input(name, values)


def _constants(program: PaddleProgram, name: str, scales: Array) -> dict[str, list[str]]:
    """The operands that hold the scales of a tensor and as many zero points."""
    scale, zero_point = f"{name}@scale", f"{name}@zero_point"
    program.set_parameter(scale, scales)
    program.set_parameter(zero_point, np.zeros(scales.shape), "int32")
    return {"Scale": [scale], "ZeroPoint": [zero_point]}


def _insert(block: Any, index: int, kind: str, inputs: Mapping[str, list[str]], output: str, axis: int) -> None:
    attributes = {"quant_axis": axis, "bit_length": _BITS, "is_test": True}
    block._insert_op(index, type=kind, inputs=inputs, outputs={"Y": [output]}, attrs=attributes)
