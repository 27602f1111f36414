"""Fully connected layers of a Paddle program, which of them run in INT8, and how. Not for ranges and scales.

They run as convolutions of one pixel. As matrix products Paddle 3.3 would scale their INT8 weights wrongly: a weight of
K inputs and M outputs is stored as [K, M], and Paddle takes the scale of channel m from the numbers m K … (m + 1) K - 1
in that order, which are not channel m's.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from quantfleet_worker.models.paddle_program import CONVOLUTIONS, PRODUCTS, PaddleProgram, old_programs
from quantfleet_worker.quantizers.paddle_ranges import UNSIGNED, activations_of, operands, output_of

HEAD = "the last matrix product of a convolutional model is its head, which stays in float for its resolution"
OTHER = "a matrix product of two activations, over an open axis, or without a bias, is no convolution"

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
    # The axes between, of a product of each token say, are the height of a picture: [N, L, K] is read as [N, K, L, 1].
    height = math.prod(block.var(output).shape[1:-1])
    values = np.ascontiguousarray(program.parameter(weight).T)
    outputs, inputs = values.shape
    program.set_parameter(filter_name, values.reshape(outputs, inputs, 1, 1))
    last = program.consumers(output)[0]
    last._set_attr("axis", 1)
    result = output_of(last)
    readers = program.consumers(result)
    if len(readers) == 1 and readers[0].type in UNSIGNED and result not in program.fetches:
        block.var(result).desc.set_shape([-1, outputs, height, 1])
        last, result = readers[0], output_of(readers[0])
    shape = list(block.var(result).shape)
    last._rename_output(result, _variable(block, f"{result}.map", [-1, outputs, height, 1]))
    block.var(output).desc.set_shape([-1, outputs, height, 1])
    _unmap(block, block.ops.index(last) + 1, result, [outputs, height], shape)
    index, mapped = program.remove(product), block.has_var(f"{source}.map")
    picture = _variable(block, f"{source}.map", [-1, inputs, height, 1])
    operands_ = {"Input": [picture], "Filter": [filter_name]}
    block._insert_op(index, type="conv2d", inputs=operands_, outputs={"Output": [output]}, attrs=_ONE_PIXEL)
    if not mapped:
        _map(block, index, source, [inputs, height])
    return result


def _map(block: Any, index: int, source: str, size: list[int]) -> None:
    """Make the picture [N, K, L, 1] of a tensor that holds [N, L, K]."""
    if size[1] > 1:
        columns = _variable(block, f"{source}.columns", [-1, *size])
        rows = _variable(block, f"{source}.rows", [-1, size[1], size[0]])
        _reshape(block, index, source, rows, [0, size[1], size[0]])
        _transpose(block, index + 1, rows, columns)
        source_, index = columns, index + 2
    else:
        source_ = source
    _reshape(block, index, source_, f"{source}.map", [0, *size, 1])


def _unmap(block: Any, index: int, result: str, size: list[int], shape: list[int]) -> None:
    """Make the tensor of its own shape again of the picture [N, M, L, 1]."""
    if size[1] > 1:
        columns = _variable(block, f"{result}.channels", [-1, *size])
        rows = _variable(block, f"{result}.places", [-1, size[1], size[0]])
        _reshape(block, index, f"{result}.map", columns, [0, *size])
        _transpose(block, index + 1, columns, rows)
        _reshape(block, index + 2, rows, result, [0, *shape[1:]])
    else:
        _reshape(block, index, f"{result}.map", result, [0, *shape[1:]])


def _variable(block: Any, name: str, shape: list[int]) -> str:
    """A tensor of this name, made where it is not there."""
    if not block.has_var(name):
        block.create_var(name=name, dtype="float32", shape=shape, persistable=False)
    return name


def _reshape(block: Any, index: int, source: str, output: str, shape: list[int]) -> None:
    axes = _variable(block, f"{output}.axes", [])  # what Paddle's gradients would need, and its operator demands
    outputs = {"Out": [output], "XShape": [axes]}
    block._insert_op(index, type="reshape2", inputs={"X": [source]}, outputs=outputs, attrs={"shape": shape})


def _transpose(block: Any, index: int, source: str, output: str) -> None:
    axes = _variable(block, f"{output}.order", [])  # as in a reshape
    outputs = {"Out": [output], "XShape": [axes]}
    block._insert_op(index, type="transpose2", inputs={"X": [source]}, outputs=outputs, attrs={"axis": [0, 2, 1]})


def _is_connected(program: PaddleProgram, product: Any) -> bool:
    """Whether it is a product by a constant weight, [inputs, outputs], with a bias behind it, of settled axes."""
    block = program.program.global_block()
    (_, weight), output = operands(product), output_of(product)
    flags = [flag for flag in ("trans_x", "trans_y", "transpose_X", "transpose_Y") if product.has_attr(flag)]
    if not program.is_parameter(weight) or any(product.attr(flag) for flag in flags):
        return False
    if len(block.var(weight).shape) != 2 or min(block.var(output).shape[1:]) < 0 or output in program.fetches:
        return False
    readers = program.consumers(output)
    if len(readers) != 1 or readers[0].type != "elementwise_add" or readers[0].input("X")[0] != output:
        return False
    bias = readers[0].input("Y")[0]
    return program.is_parameter(bias) and len(block.var(bias).shape) == 1


def _node(program: PaddleProgram, operator: Any) -> Node:
    weighted = operator.type in (*CONVOLUTIONS, *PRODUCTS) and program.is_parameter(operands(operator)[1])
    return activations_of(program, operator), operator.output_arg_names, weighted
