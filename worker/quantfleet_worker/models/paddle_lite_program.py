"""Makes a user's Paddle model a program that Paddle Lite's `opt` takes and fuses. Not for quantizing it."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from quantfleet_worker.models.paddle_extras import restore_extras
from quantfleet_worker.models.paddle_files import PaddleFiles, dtype_name, find_files, read_signature
from quantfleet_worker.models.paddle_normalize import normalize
from quantfleet_worker.models.paddle_pir import load_program
from quantfleet_worker.models.paddle_program import PaddleProgram, old_programs

_LINEAR = ("quantize_linear", "dequantize_linear")


@dataclass(frozen=True)
class LiteProgram:
    """A program for `opt`: its files, the inputs in its own order (shape with None for an open dimension, and dtype),
    and the dtypes of its outputs in order."""

    files: PaddleFiles
    inputs: Mapping[str, tuple[tuple[int | None, ...], np.dtype[Any]]]
    outputs: Mapping[str, np.dtype[Any]]


def prepare(model: Path, out: Path) -> LiteProgram:
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
    block, written = program.program.global_block(), replace(files, directory=out, pir=False)
    inputs = read_signature(written).inputs
    return LiteProgram(
        written,
        {name: inputs[name] for name in program.feeds},
        {name: np.dtype(dtype_name(block.var(name).dtype)) for name in program.fetches},
    )


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
