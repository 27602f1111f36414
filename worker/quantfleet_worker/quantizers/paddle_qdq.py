"""Writes `quantize_linear` and `dequantize_linear` operators into a Paddle program, a pair a tensor. Not for which.

Paddle's own passes write two pairs for a tensor with two kinds of readers, and give both the same names. In the order
in which such a program is saved here, the second pair takes the place of the first, and as it is marked
`only_observer`, Paddle's operators then round nothing. oneDNN's passes do not mind; of those for TensorRT and for
Paddle Lite one pair is what is known to be understood.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from quantfleet_worker.models.paddle_program import CONVOLUTIONS, Array, PaddleProgram
from quantfleet_worker.quantizers.paddle_ranges import LEVELS

_BITS = 8
_PER_TENSOR = -1


def read_quantized(program: PaddleProgram, reader: Any, name: str, known: Mapping[str, float]) -> None:
    """Let an operator read a tensor through a pair of operators with the range that `known` has; made where it lacks.

    Inside `old_programs`.
    """
    block = program.program.global_block()
    codes, values = f"{name}.quantized", f"{name}.quantized.dequantized"
    if not block.has_var(values):
        scale = np.float32(known[name] / LEVELS)
        constants = _constants(program, name, np.array([written_threshold(scale)]))
        index = block.ops.index(reader)
        for place, (kind, source, output) in enumerate((("quantize", name, codes), ("dequantize", codes, values))):
            block.create_var(name=output, shape=block.var(name).shape, dtype="float32", persistable=False)
            _insert(block, index + place, f"{kind}_linear", {"X": [source], **constants}, output, _PER_TENSOR)
    reader._rename_input(name, values)


def read_integers(program: PaddleProgram, layer: Any, name: str, scales: Array) -> None:
    """Let a layer read its weight as int8 codes through a `dequantize_linear`; `scales` are float32, one per channel.

    Inside `old_programs`.
    """
    block = program.program.global_block()
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


def written_threshold(scale: np.float32) -> np.float32:
    """The float32 that, divided by 127 as float32, gives this scale of a range; the nearest to it where none does."""
    nearest = np.float32(float(scale) * LEVELS)
    for candidate in (nearest, np.nextafter(nearest, np.float32(0)), np.nextafter(nearest, np.float32(np.inf))):
        if candidate / np.float32(LEVELS) == scale:
            return np.float32(candidate)
    return nearest


def _constants(program: PaddleProgram, name: str, scales: Array) -> dict[str, list[str]]:
    """The operands that hold the scales of a tensor and as many zero points."""
    scale, zero_point = f"{name}@scale", f"{name}@zero_point"
    program.set_parameter(scale, scales)
    program.set_parameter(zero_point, np.zeros(scales.shape), "int32")
    return {"Scale": [scale], "ZeroPoint": [zero_point]}


def _insert(block: Any, index: int, kind: str, inputs: Mapping[str, list[str]], output: str, axis: int) -> None:
    attributes = {"quant_axis": axis, "bit_length": _BITS, "is_test": True}
    block._insert_op(index, type=kind, inputs=inputs, outputs={"Y": [output]}, attrs=attributes)
