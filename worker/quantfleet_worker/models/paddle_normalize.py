"""Gives a Paddle program the form that calibration and quantization share. Not for changing what it computes.

The same tensors then exist in it and in the reference graph, paddle2onnx can convert it, and oneDNN can fuse what it
has to fuse.
"""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_program import CONVOLUTIONS, Array, PaddleProgram, old_programs


def normalize(program: PaddleProgram) -> PaddleProgram:
    """Rewrite a program in place and return it; its outputs stay the same up to float32 rounding.

    A variable that is written twice gets a name for each value. A reshape whose target is read from a tensor's shape
    gets it as constants, where at most one dimension is open. A convolution's bias is added straight from its parameter
    (`elementwise_add`, axis 1), the form that oneDNN fuses. A batch normalisation (inference form) behind a convolution
    is folded: with s = gamma/√(var + eps) the filter is scaled by s per output channel, and beta + s·(bias − mean)
    becomes the bias, computed in float64.

    Raises QuantfleetError(MODEL_UNSUPPORTED) for a program with control flow.
    """
    if program.program.num_blocks != 1:
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"the Paddle program has control flow ({program.program.num_blocks} blocks)",
            "export the model without conditional blocks and loops",
        )
    with old_programs():
        program = _name_every_value(program)
        _settle_reshapes(program)
        _attach_biases(program)
        _fold_batch_norms(program)
    return program


def _name_every_value(program: PaddleProgram) -> PaddleProgram:
    block = program.program.global_block()
    current: dict[str, str] = {}
    written: Counter[str] = Counter()
    for operator in program.operators:
        for old in set(operator.input_arg_names):
            if old in current:
                operator._rename_input(old, current[old])
        for name in sorted(set(operator.output_arg_names)):
            if operator.type == "fetch" or program.is_parameter(name):
                continue
            written[name] += 1
            if written[name] > 1:
                source, new = block.var(name), f"{name}.value{written[name]}"
                block.create_var(name=new, shape=source.shape, dtype=source.dtype, persistable=False)
                operator._rename_output(name, new)
                current[name] = new
    return replace(program, fetches=tuple(current.get(name, name) for name in program.fetches))


def _settle_reshapes(program: PaddleProgram) -> None:
    block = program.program.global_block()
    for reshape in program.of_type("reshape2"):
        tensors = reshape.input("ShapeTensor") if "ShapeTensor" in reshape.input_names else []
        if not tensors:
            continue
        target = [_read_dimension(program, name) for name in tensors]
        if None in target or target.count(-1) > 1:
            continue
        outputs = {slot: reshape.output(slot) for slot in reshape.output_names}
        inputs = {"X": reshape.input("X")}
        index = program.remove(reshape)
        block._insert_op(index, type="reshape2", inputs=inputs, outputs=outputs, attrs={"shape": target})
        _remove_unread(program, tensors)


def settle_enlargements(program: PaddleProgram) -> None:
    """State the size that an interpolation makes, where a program states the factor and all extents are known.

    paddle2onnx 2.1.0 cannot read a factor in the form that Paddle 3 gives it. The program then holds for the declared
    input shapes alone.
    """
    for operator in program.operators:
        if not operator.type.endswith("_interp_v2") or operator.attr("data_layout") != "NCHW":
            continue
        given = [slot for slot in ("Scale", "SizeTensor", "OutSize") if slot in operator.input_names]
        factors = operator.attr("scale")
        extents = program.program.global_block().var(operator.output("Out")[0]).shape[2:]
        if factors and min(extents) > 0 and not any(map(operator.input, given)):
            for axis, extent in zip("dhw"[-len(extents) :], extents, strict=True):
                operator._set_attr(f"out_{axis}", extent)
            operator._set_attr("scale", [])


def _read_dimension(program: PaddleProgram, name: str) -> int | None:
    """The dimension that a slice of a tensor's shape holds: -1 for an open one, None where it is something else."""
    producers = program.producers()
    slicing = producers.get(name)
    if slicing is None or slicing.type != "slice" or list(slicing.attr("axes")) != [0]:
        return None
    shape = producers.get(slicing.input("Input")[0])
    start, end = slicing.attr("starts")[0], slicing.attr("ends")[0]
    if shape is None or shape.type != "shape" or end - start != 1 or start < 0:
        return None
    return int(program.program.global_block().var(shape.input("Input")[0]).shape[start])


def _remove_unread(program: PaddleProgram, names: list[str]) -> None:
    for name in names:
        producer = program.producers().get(name)
        if producer is not None and name not in program.fetches and not program.consumers(name):
            inputs = [source for source in producer.input_arg_names if not program.is_parameter(source)]
            program.remove(producer)
            _remove_unread(program, inputs)


def _add(program: PaddleProgram, index: int, source: str, bias: str, output: str) -> None:
    program.program.global_block()._insert_op(
        index,
        type="elementwise_add",
        inputs={"X": [source], "Y": [bias]},
        outputs={"Out": [output]},
        attrs={"axis": 1},
    )


def _attach_biases(program: PaddleProgram) -> None:
    block = program.program.global_block()
    for add in program.of_type("elementwise_add"):
        source, bias, producers = add.input("X")[0], add.input("Y")[0], program.producers()
        convolution, reshape = producers.get(source), producers.get(bias)
        if convolution is None or convolution.type not in CONVOLUTIONS:
            continue
        if reshape is None or reshape.type not in ("reshape2", "unsqueeze2"):
            continue
        parameter, channels = reshape.input("X")[0], block.var(convolution.input("Filter")[0]).shape[0]
        if not program.is_parameter(parameter) or program.parameter(parameter).shape != (channels,):
            continue
        if tuple(block.var(bias).shape) != (1, channels, 1, 1):
            continue
        output = add.output("Out")[0]
        _add(program, program.remove(add), source, parameter, output)
        _remove_unread(program, [bias])


def _fold_batch_norms(program: PaddleProgram) -> None:
    for norm in program.of_type("batch_norm"):
        if not (norm.attr("is_test") or norm.attr("use_global_stats")):
            continue
        producers = program.producers()
        source, bias, add = norm.input("X")[0], np.zeros(1), producers.get(norm.input("X")[0])
        if add is not None and _adds_bias(program, add):
            source, bias = add.input("X")[0], program.parameter(add.input("Y")[0]).astype(np.float64)
        else:
            add = None
        convolution = producers.get(source)
        if convolution is None or convolution.type not in CONVOLUTIONS:
            continue
        weight = convolution.input("Filter")[0]
        read_once = (weight, source, norm.input("X")[0])
        if not program.is_parameter(weight) or any(len(program.consumers(name)) != 1 for name in read_once):
            continue
        factor, shift = _affine(program, norm)
        program.set_parameter(weight, program.parameter(weight).astype(np.float64) * factor.reshape(-1, 1, 1, 1))
        program.set_parameter(f"{weight}.folded_bias", shift + factor * bias)
        if add is not None:
            program.remove(add)
        output = norm.output("Y")[0]
        _add(program, program.remove(norm), source, f"{weight}.folded_bias", output)


def _adds_bias(program: PaddleProgram, operator: Any) -> bool:
    if operator.type != "elementwise_add" or operator.attr("axis") != 1:
        return False
    bias = operator.input("Y")[0]
    return program.is_parameter(bias) and program.parameter(bias).ndim == 1


def _affine(program: PaddleProgram, norm: Any) -> tuple[Array, Array]:
    gamma, beta, mean, variance = (
        program.parameter(norm.input(slot)[0]).astype(np.float64) for slot in ("Scale", "Bias", "Mean", "Variance")
    )
    factor = gamma / np.sqrt(variance + float(norm.attr("epsilon")))
    return factor, beta - factor * mean
