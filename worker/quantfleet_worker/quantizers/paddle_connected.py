"""Fully connected layers of a Paddle program, which of them run in INT8, and how. Not for ranges and scales.

They run as convolutions of one pixel. As matrix products Paddle 3.3 would scale their INT8 weights wrongly: a weight of
K inputs and M outputs is stored as [K, M], and Paddle takes the scale of channel m from the numbers m K … (m + 1) K - 1
in that order, which are not channel m's.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from quantfleet_worker.models.paddle_program import CONVOLUTIONS, PRODUCTS, PaddleProgram, old_programs
from quantfleet_worker.quantizers.paddle_ranges import UNSIGNED, activations_of, operands, output_of

HEAD = "the last matrix product of a convolutional model is its head, which stays in float for its resolution"
OTHER = "a matrix product with other than two axes, or without a bias, is no convolution"

_ONE_PIXEL = {
    "strides": [1, 1],
    "paddings": [0, 0],
    "dilations": [1, 1],
    "groups": 1,
    "padding_algorithm": "EXPLICIT",
    "data_format": "NCHW",
}
Node = tuple[Sequence[str], Sequence[str], bool]
"""The activations that a node reads, its outputs, and whether it has a weight."""


def float_products(program: PaddleProgram) -> dict[str, str]:
    """The matrix products that stay in float, by output, with the reason."""
    products = [operator for operator in program.operators if operator.type in PRODUCTS]
    found = {output_of(product): OTHER for product in products if not _is_connected(program, product)}
    if any(operator.type in CONVOLUTIONS for operator in program.operators):
        last = unfollowed(_node(program, operator) for operator in program.operators)
        found |= {output_of(product): HEAD for product in products if output_of(product) in last}
    return found


def unfollowed(nodes: Iterable[Node]) -> set[str]:
    """The first outputs of the nodes with a weight that none with a weight follows; the nodes are in order."""
    last: set[str] = set()
    behind: dict[str, frozenset[str]] = {}
    for inputs, outputs, weighted in nodes:
        before = frozenset[str]().union(*(behind.get(name, ()) for name in inputs))
        if weighted:
            last = (last - before) | {outputs[0]}
            before = frozenset(outputs[:1])
        behind.update(dict.fromkeys(outputs, before))
    return last


def reshape_flattened(program: PaddleProgram) -> None:
    """Make reshapes of what flattens all axes behind the first: only through those oneDNN's passes carry scales."""
    block = program.program.global_block()
    with old_programs():
        for operator in program.operators:
            if operator.type == "flatten_contiguous_range" and operator.attr("start_axis") == 1:
                (source,), (output,) = operator.input("X"), operator.output("Out")
                if operator.attr("stop_axis") in (-1, len(block.var(source).shape) - 1):
                    _reshape(block, program.remove(operator), source, output, [0, -1])


def as_convolutions(program: PaddleProgram, layers: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Make convolutions of the fully connected layers with these outputs, each with its bias and rectifier.

    Returns by the old name the new ones of their weights, and those of what they compute, which a reshape brings back
    under its old name; without what users read, which is not to be quantized.
    """
    filters, maps = {}, {}
    with old_programs():
        for product in [item for item in program.operators if item.type in PRODUCTS and output_of(item) in layers]:
            weight = operands(product)[1]
            filters[weight] = f"{weight}.filter"
            result = _convolve(program, product, filters[weight])
            if result not in program.fetches:
                maps[result] = f"{result}.map"
    return filters, maps


def _convolve(program: PaddleProgram, product: Any, filter_name: str) -> str:
    block = program.program.global_block()
    (source, weight), output = operands(product), output_of(product)
    values = np.ascontiguousarray(program.parameter(weight).T)
    program.set_parameter(filter_name, values.reshape(*values.shape, 1, 1))
    last = program.consumers(output)[0]
    last._set_attr("axis", 1)
    result = output_of(last)
    readers = program.consumers(result)
    if len(readers) == 1 and readers[0].type in UNSIGNED and result not in program.fetches:
        block.var(result).desc.set_shape([-1, len(values), 1, 1])
        last, result = readers[0], output_of(readers[0])
    last._rename_output(result, _map(block, result, len(values)))
    block.var(output).desc.set_shape([-1, len(values), 1, 1])
    _reshape(block, block.ops.index(last) + 1, f"{result}.map", result, [0, -1])
    index, mapped = program.remove(product), block.has_var(f"{source}.map")
    inputs = {"Input": [_map(block, source, values.shape[1])], "Filter": [filter_name]}
    block._insert_op(index, type="conv2d", inputs=inputs, outputs={"Output": [output]}, attrs=_ONE_PIXEL)
    if not mapped:
        _reshape(block, index, source, f"{source}.map", [0, -1, 1, 1])
    return result


def _map(block: Any, name: str, channels: int) -> str:
    """The tensor of one pixel that holds what the named tensor of two axes holds, made where it is not there."""
    if not block.has_var(f"{name}.map"):
        block.create_var(name=f"{name}.map", dtype="float32", shape=[-1, channels, 1, 1], persistable=False)
    return f"{name}.map"


def _reshape(block: Any, index: int, source: str, output: str, shape: list[int]) -> None:
    axes = f"{output}.axes"  # what Paddle's gradients would need, and its operator demands
    block.create_var(name=axes, dtype="float32", persistable=False)
    outputs = {"Out": [output], "XShape": [axes]}
    block._insert_op(index, type="reshape2", inputs={"X": [source]}, outputs=outputs, attrs={"shape": shape})


def _is_connected(program: PaddleProgram, product: Any) -> bool:
    """Whether it is a product of two axes by a constant weight, [inputs, outputs], with a bias behind it."""
    block = program.program.global_block()
    (_, weight), output = operands(product), output_of(product)
    flags = [flag for flag in ("trans_x", "trans_y", "transpose_X", "transpose_Y") if product.has_attr(flag)]
    if not program.is_parameter(weight) or any(product.attr(flag) for flag in flags):
        return False
    if len(block.var(weight).shape) != 2 or len(block.var(output).shape) != 2 or output in program.fetches:
        return False
    readers = program.consumers(output)
    if len(readers) != 1 or readers[0].type != "elementwise_add" or readers[0].input("X")[0] != output:
        return False
    bias = readers[0].input("Y")[0]
    return program.is_parameter(bias) and len(block.var(bias).shape) == 1


def _node(program: PaddleProgram, operator: Any) -> Node:
    weighted = operator.type in (*CONVOLUTIONS, *PRODUCTS) and program.is_parameter(operands(operator)[1])
    return activations_of(program, operator), operator.output_arg_names, weighted
