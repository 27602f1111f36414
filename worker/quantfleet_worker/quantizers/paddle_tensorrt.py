"""From a scale table to what Paddle-TensorRT runs in INT8, in both of its forms. Not for choosing scales.

`qdq` is a quantized program: Paddle takes its operators out again and gives TensorRT the ranges
(delete_quant_dequant_linear_op_pass.cc and trt_delete_weight_dequant_linear_op_pass.cc of Paddle 2.6), in which -127 …
127 codes cover every tensor. `table` is the program in float and a calibration table with the tensors' names in it.
"""

from pathlib import Path

from quantfleet_domain.calibration.correction import FormCorrections
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.calibration.tensorrt_cache import FILE, KIND, CalibrationCache
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.models.paddle_normalize import normalize
from quantfleet_worker.models.paddle_pir import load_program
from quantfleet_worker.models.paddle_program import PaddleProgram
from quantfleet_worker.quantizers.paddle_bias import add_to_biases
from quantfleet_worker.quantizers.paddle_layers import QuantizedProgram, bias_deltas, choose, weight_peaks
from quantfleet_worker.quantizers.paddle_qdq import write
from quantfleet_worker.quantizers.paddle_ranges import UNSIGNED, thresholds

QDQ, TABLE = "qdq", "table"
FORMS = (QDQ, TABLE)
_NO_VERSION = "0"
"""A table is of one version of TensorRT: the engine that reads it puts its own there."""


def quantize(
    model: Path, table: ScaleTable, form: str, out: Path, corrections: FormCorrections | None = None
) -> QuantizedProgram:
    """Write one of `FORMS` of the Paddle model in directory `model` to directory `out`, under the same file stem.

    `qdq` is as `paddle_qdq.write` says. Of `table`, the program is the model's own in the old format, with batch
    normalisation folded and biases corrected, and `calibration.cache` the table. TensorRT chooses by itself what it
    runs in INT8 where it has a table: the layers that `corrections` exclude, and the head, may be among it.

    Raises QuantfleetError: MODEL_NOT_FOUND, MODEL_UNREADABLE, MODEL_UNSUPPORTED (a program that cannot be quantized),
    SCALES_INVALID for an unknown form, or where the table and the model have nothing in common or differ in channels.
    """
    if form == QDQ:
        return write(model, table, form, out, corrections)
    if form != TABLE:
        raise QuantfleetError(ErrorCode.SCALES_INVALID, f"unknown form {form!r}", f"forms here: {', '.join(FORMS)}")
    files = find_files(model)
    program = normalize(load_program(files))
    known = thresholds(program, table)
    chosen = choose(program, known, weight_peaks(table), table, FormCorrections(form, (), ()), model)
    if corrections is not None:
        add_to_biases(program, bias_deltas(corrections, table))
    out.mkdir(parents=True, exist_ok=True)
    program.save(out, files.stem)
    cache = CalibrationCache.of_thresholds(_NO_VERSION, KIND, _before_rectifiers(program, known))
    (out / FILE).write_bytes(cache.to_text())
    return QuantizedProgram(out, form, chosen.int8, chosen.in_float)


def _before_rectifiers(program: PaddleProgram, known: dict[str, float]) -> dict[str, float]:
    """The thresholds, and for what only a rectifier reads that of its output: what is cut off there is below zero.

    Calibration sees such a tensor only after the rectifier, and TensorRT wants a range for it before.
    """
    found = dict(known)
    for operator in program.operators:
        (source, *_), (output, *_) = operator.input_arg_names or [""], operator.output_arg_names
        if operator.type in UNSIGNED and output in known and len(program.consumers(source)) == 1:
            found.setdefault(source, known[output])
    return found
