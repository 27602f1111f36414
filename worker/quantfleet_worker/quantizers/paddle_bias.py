"""Adds corrections to the biases of a Paddle program's layers. Not for choosing corrections.

The bias of a convolution is an `elementwise_add` (axis 1) straight from a parameter, that of a matrix product one along
the last axis: the forms that oneDNN's passes fuse into the layer, whose bias then is added in 32 bits.
"""

from collections.abc import Mapping
from typing import Any

from quantfleet_worker.models.paddle_program import CONVOLUTIONS, PRODUCTS, Array, PaddleProgram, old_programs


def add_to_biases(program: PaddleProgram, deltas: Mapping[str, Array]) -> None:
    """Add to the bias of each layer, by the name of its weight; `deltas` are float32, one per output channel.

    A layer without a bias gets one, unless its delta is zero. A weight that several operators use is passed over: what
    one of them lacks, the others do not.
    """
    with old_programs():
        for weight, delta in deltas.items():
            users = program.consumers(weight)
            if len(users) == 1 and users[0].type in (*CONVOLUTIONS, *PRODUCTS) and delta.any():
                _correct(program, users[0], weight, delta)


def _correct(program: PaddleProgram, layer: Any, weight: str, delta: Array) -> None:
    block = program.program.global_block()
    (output,) = (name for name in layer.output_arg_names)
    axis = 1 if layer.type in CONVOLUTIONS else len(block.var(output).shape) - 1
    corrected = f"{weight}.corrected_bias"
    readers = program.consumers(output)
    if len(readers) == 1 and output not in program.fetches and _adds_vector(program, readers[0], output, axis):
        bias = readers[0].input("Y")[0]
        program.set_parameter(corrected, program.parameter(bias) + delta)
        readers[0]._rename_input(bias, corrected)
        return
    program.set_parameter(corrected, delta)
    # The sum takes the layer's own name, so that it keeps the range and the readers of what the layer computed.
    source, before = block.var(output), f"{output}.uncorrected"
    block.create_var(name=before, shape=source.shape, dtype=source.dtype, persistable=False)
    layer._rename_output(output, before)
    block._insert_op(
        block.ops.index(layer) + 1,
        type="elementwise_add",
        inputs={"X": [before], "Y": [corrected]},
        outputs={"Out": [output]},
        attrs={"axis": axis},
    )


def _adds_vector(program: PaddleProgram, operator: Any, source: str, axis: int) -> bool:
    if operator.type != "elementwise_add" or operator.input("X")[0] != source:
        return False
    rank = len(program.program.global_block().var(source).shape)
    bias = operator.input("Y")[0]
    along = operator.attr("axis") % rank if operator.attr("axis") >= 0 else rank - 1
    return along == axis and program.is_parameter(bias) and program.parameter(bias).ndim == 1
