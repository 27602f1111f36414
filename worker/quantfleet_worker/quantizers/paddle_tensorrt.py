"""From a scale table to what Paddle-TensorRT runs in INT8, in both of its forms. Not for choosing scales.

`qdq` is a quantized program: Paddle takes its operators out again and gives TensorRT the ranges
(delete_quant_dequant_linear_op_pass.cc and trt_delete_weight_dequant_linear_op_pass.cc of Paddle 2.6), in which -127 …
127 codes cover every tensor. `table` is the program in float and a calibration table with the tensors' names in it.

In both, the fully connected layers that are to run in INT8 are convolutions of one pixel: of those TensorRT quantizes
the weights itself, but of a matrix product's it wants a range, for which Paddle has no place (matrix_multiply_op.cc).
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from quantfleet_domain.calibration.correction import FormCorrections
from quantfleet_domain.calibration.forms import weight_scales
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.calibration.tensorrt_cache import FILE, KIND, CalibrationCache
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.models.paddle_normalize import normalize
from quantfleet_worker.models.paddle_pir import load_program
from quantfleet_worker.models.paddle_program import Array, PaddleProgram, old_programs
from quantfleet_worker.quantizers.paddle_bias import add_to_biases
from quantfleet_worker.quantizers.paddle_connected import as_convolutions, reshape_flattened
from quantfleet_worker.quantizers.paddle_layers import QuantizedProgram, bias_deltas, choose, weight_peaks
from quantfleet_worker.quantizers.paddle_qdq import read_integers, read_quantized
from quantfleet_worker.quantizers.paddle_ranges import UNSIGNED, operands, output_of, part_outputs, ranges, thresholds

QDQ, TABLE = "qdq", "table"
FORMS = (QDQ, TABLE)
_NO_VERSION = "0"
"""A table is of one version of TensorRT: the engine that reads it puts its own there."""


def quantize(
    model: Path, table: ScaleTable, form: str, out: Path, corrections: FormCorrections | None = None
) -> QuantizedProgram:
    """Write one of `FORMS` of the Paddle model in directory `model` to directory `out`, under the same file stem.

    The table's rows are found by their native names, as `paddle_model.inspect` gave them. A PIR program becomes an
    old-format one, with batch normalisation folded. Convolutions and fully connected layers are quantized, save those
    that `float_products` names; the table form adds `calibration.cache`, in which the outputs of those have no scale.
    `corrections` are added to the biases of their layers. The layers that they exclude stay in float in the form `qdq`;
    where TensorRT has a table it chooses by itself. The same arguments give the same bytes.

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
    known, peaks = thresholds(program, table), weight_peaks(table)
    corrections = corrections or FormCorrections(form, (), ())
    chosen = choose(program, known, peaks, table, corrections, model)
    add_to_biases(program, bias_deltas(corrections, table))
    filters, maps = as_convolutions(program, chosen.int8)
    known = thresholds(program, table)
    known |= {new: known[name] for name, new in maps.items() if name in known}
    widths = ranges(program, known, chosen.int8, None)
    if form == QDQ:
        scales = {row.native_name: weight_scales(row.absmax) for row in table.weights if row.native_name is not None}
        _insert(program, chosen.int8, widths, scales | {new: scales[name] for name, new in filters.items()})
    out.mkdir(parents=True, exist_ok=True)
    program.save(out, files.stem)
    if form == TABLE:
        cache = CalibrationCache.of_thresholds(_NO_VERSION, KIND, _before_rectifiers(program, widths))
        (out / FILE).write_bytes(cache.to_text())
    return QuantizedProgram(out, form, chosen.int8, chosen.in_float)


def _insert(
    program: PaddleProgram, int8: Collection[str], widths: Mapping[str, float], scales: Mapping[str, Array]
) -> None:
    """Let every tensor with a range be read through its codes, and the INT8 layers their weights."""
    with old_programs():
        for operator in program.operators:
            for name in sorted(widths.keys() & set(operator.input_arg_names)):
                read_quantized(program, operator, name, widths)
        for operator in program.operators:
            if output_of(operator) in int8:
                weight = operands(operator)[1]
                read_integers(program, operator, weight, scales[weight])


def _before_rectifiers(program: PaddleProgram, widths: Mapping[str, float]) -> dict[str, float]:
    """The ranges, and for what only a rectifier reads that of its output: what is cut off there is below zero.

    Calibration sees such a tensor only after the rectifier, and TensorRT wants a range for it before.
    """
    found = dict(widths)
    for operator in program.operators:
        if operator.type in UNSIGNED:
            (source,), (output,) = operator.input("X"), operator.output("Out")
            if output in widths and len(program.consumers(source)) == 1:
                found.setdefault(source, widths[output])
    return found
