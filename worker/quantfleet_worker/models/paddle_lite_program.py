"""Makes a user's Paddle model a program that Paddle Lite's `opt` takes and fuses. Not for quantizing it."""

from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path

from quantfleet_worker.models.paddle_extras import restore_extras
from quantfleet_worker.models.paddle_files import PaddleFiles, find_files
from quantfleet_worker.models.paddle_normalize import normalize
from quantfleet_worker.models.paddle_pir import load_program
from quantfleet_worker.models.paddle_program import PaddleProgram, old_programs

_LINEAR = ("quantize_linear", "dequantize_linear")


def prepare(model: Path, out: Path) -> PaddleFiles:
    """Write the model in directory `model`, in float or quantized, as such a program to directory `out`.

    A PIR program becomes an old-format one. Biases are attached and batch normalisations folded (see `normalize`), for
    FP32 as for INT8, so that both are fused alike; a program with control flow stays as it is. Where Paddle's passes
    quantized one tensor twice, once is left: opt knows no other form. The same model gives the same bytes.

    Raises QuantfleetError: MODEL_NOT_FOUND, MODEL_UNREADABLE, or MODEL_UNSUPPORTED for a PIR program with an operator
    that has no old form here.
    """
    files = find_files(model)
    program = _normalized(load_program(files))
    _quantize_once(program)
    restore_extras(program)
    out.mkdir(parents=True, exist_ok=True)
    program.save(out, files.stem, keep_extra=True)
    return replace(files, directory=out, pir=False)


def _normalized(program: PaddleProgram) -> PaddleProgram:
    return normalize(program) if program.program.num_blocks == 1 else program


def _quantize_once(program: PaddleProgram) -> None:
    seen: set[Hashable] = set()
    with old_programs():
        for operator in program.operators:
            if operator.type in _LINEAR:
                key = (operator.type, *operator.input("X"), *operator.input("Scale"), *operator.output("Y"))
                if key in seen:
                    program.remove(operator)
                seen.add(key)
