"""The ranges with which tensors of a Paddle program are quantized. Not for inserting the operators that do so."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from quantfleet_domain.calibration.forms import ActivationForm, activation_parameters
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_worker.models.paddle_program import CONVOLUTIONS, Array, PaddleProgram, old_programs
from quantfleet_worker.quantizers.headroom import CodeLimits, code_limit

LEVELS = 127
"""The largest code of a symmetric int8."""
UNSIGNED = ("relu", "relu6")
"""Operators whose outputs Paddle's oneDNN passes store as u8 with 255 levels; all other tensors are s8 with 127."""
TRANSPARENT = ("pool2d", "concat", "reshape2", "transpose2", "flatten_contiguous_range", "nearest_interp_v2")
"""Operators whose output has the scale of their input, and its type too, save a concat's: Paddle's oneDNN passes write
that as u8 where all inputs are, but whoever reads it gets s8."""


def part_outputs(program: PaddleProgram) -> None:
    """Let what reads an output of the program read a copy: the output stays in float, and the copy may be quantized."""
    block = program.program.global_block()
    with old_programs():
        for name in program.fetches:
            readers = [operator for operator in program.consumers(name) if operator.type != "fetch"]
            if readers:
                source, copy = block.var(name), f"{name}.read"
                block.create_var(name=copy, shape=source.shape, dtype=source.dtype, persistable=False)
                for operator in readers:
                    operator._rename_input(name, copy)
                index = block.ops.index(readers[0])
                block._insert_op(index, type="assign", inputs={"X": [name]}, outputs={"Out": [copy]})


def thresholds(program: PaddleProgram, table: ScaleTable) -> dict[str, float]:
    """The largest magnitude of each tensor that has one in the table, or the values of one that has, by name here."""
    rows = {row.tensor: row for row in table.activations}
    known: dict[str, float] = {}
    for row in table.activations:
        source = rows[row.tied_to or row.tensor]
        parameters = activation_parameters(ActivationForm.S8_SYMMETRIC, source.lo, source.hi)
        if row.native_name is not None:
            known[row.native_name] = float(parameters.scale) * LEVELS
    for operator in program.operators:
        inputs = activations_of(program, operator)
        if len(inputs) != 1 or inputs[0] not in known:
            continue
        if _transparent(operator) or operator.type == "assign":
            known.update(dict.fromkeys(operator.output_arg_names, known[inputs[0]]))
        elif operator.type in UNSIGNED:
            # Where nothing was below zero, values cannot tell its sides apart, and the table may name the other one.
            known.setdefault(operator.output_arg_names[0], known[inputs[0]])
    return known


def ranges(
    program: PaddleProgram,
    known: Mapping[str, float],
    int8: Collection[str],
    weights: Mapping[str, Array] | None,
) -> dict[str, float]:
    """The range of each tensor from which an INT8 operator is computed; the rest stays in float, as what users read.

    oneDNN fuses a sum of two activations into the convolution before it only where it knows the sum's range, so that
    has one too. `known` are `thresholds`; `int8` names the outputs of the INT8 convolutions. With `weights`, the peaks
    of theirs, the ranges of unsigned tensors are widened as a CPU without VNNI needs it.
    """
    layers = [operator for operator in program.operators if output_of(operator) in int8]
    wanted = {operands(layer)[0] for layer in layers} | _sums(program)
    for operator in reversed(program.operators):
        if wanted.intersection(operator.output_arg_names):
            wanted.update(operator.input_arg_names)
    limits = _limits(program, layers, weights or {})
    return {
        name: threshold * limits.widening(name)
        for name, threshold in known.items()
        if name in wanted and name not in program.fetches
    }


def operands(operator: Any) -> tuple[str, str]:
    """The names of the activation and of the weight of a convolution or matrix product."""
    slots = ("Input", "Filter") if operator.type in CONVOLUTIONS else ("X", "Y")
    return operator.input(slots[0])[0], operator.input(slots[1])[0]


def output_of(operator: Any) -> str:
    """The name by which an operator is known: its first output."""
    return str(operator.output_arg_names[0])


def activations_of(program: PaddleProgram, operator: Any) -> list[str]:
    """The inputs of an operator that are no parameters."""
    return [name for name in operator.input_arg_names if not program.is_parameter(name)]


def _transparent(operator: Any) -> bool:
    if operator.type == "dropout":
        return bool(operator.attr("dropout_implementation") == "upscale_in_train")  # else it multiplies here
    return operator.type in TRANSPARENT


def _sums(program: PaddleProgram) -> set[str]:
    sums: set[str] = set()
    for operator in program.operators:
        inputs = activations_of(program, operator)
        adds = operator.type == "elementwise_add" and len(inputs) > 1
        if adds or (operator.type in UNSIGNED and sums.issuperset(inputs)):
            sums.update(operator.output_arg_names)
    return sums


def unsigned(program: PaddleProgram) -> set[str]:
    """The tensors that oneDNN reads as u8, with 255 levels."""
    found: set[str] = set()
    for operator in program.operators:
        inputs = activations_of(program, operator)
        if operator.type in UNSIGNED or (
            _transparent(operator) and operator.type != "concat" and found.issuperset(inputs)
        ):
            found.update(operator.output_arg_names)
    return found


def _limits(program: PaddleProgram, layers: list[Any], weights: Mapping[str, Array]) -> CodeLimits:
    limits, nonnegative = [], unsigned(program)
    for layer in layers:
        activation, weight = operands(layer)
        if weight in weights and activation in nonnegative:  # for signed ones oneDNN itself halves the weights
            values, scales = program.parameter(weight), np.asarray(weights[weight] / LEVELS, np.float32)
            limits.append((activation, code_limit(values, 0, scales, layer.attr("groups"))))
    shared = (
        (*activations_of(program, operator), *operator.output_arg_names)
        for operator in program.operators
        if _transparent(operator)
    )
    return CodeLimits(limits, shared)
