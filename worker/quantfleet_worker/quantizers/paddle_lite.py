"""From a scale table to a Paddle program that Paddle Lite's `opt` takes. Not for choosing scales, nor for running opt.

Every INT8 layer reads its activation through a `quantize_linear` and a `dequantize_linear` that share scale and zero
point, and its int8 weight through a `dequantize_linear`: the pattern that Lite's `lite_quant_dequant_fuse_pass` takes
for an INT8 kernel (lite/core/optimizer/mir/fusion/quant_dequant_op_fuser.cc of 2.13). What Paddle's own passes write
has such a pair twice for a tensor with two kinds of readers, and of that `opt` makes nothing.
"""

from pathlib import Path

from quantfleet_domain.calibration.correction import FormCorrections
from quantfleet_domain.calibration.forms import weight_scales
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_worker.models.paddle_extras import restore_extras
from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.models.paddle_normalize import normalize
from quantfleet_worker.models.paddle_pir import load_program
from quantfleet_worker.models.paddle_program import old_programs
from quantfleet_worker.quantizers.paddle_bias import add_to_biases
from quantfleet_worker.quantizers.paddle_layers import QuantizedProgram, bias_deltas, choose, weight_peaks
from quantfleet_worker.quantizers.paddle_qdq import read_integers, read_quantized
from quantfleet_worker.quantizers.paddle_ranges import operands, output_of, thresholds

FORM = "s8-symmetric-lite"
"""Symmetric activations per tensor, of what INT8 layers read alone, and weights per channel; zero point 0."""


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
            read_quantized(program, layer, operands(layer)[0], known)
        for layer in layers:
            read_integers(program, layer, operands(layer)[1], scales[operands(layer)[1]])
    restore_extras(program)
    out.mkdir(parents=True, exist_ok=True)
    program.save(out, files.stem, keep_extra=True)
    return QuantizedProgram(out, FORM, chosen.int8, chosen.in_float)
