"""Gives a Paddle program back what Paddle 3 leaves out and older readers demand. Not for changing what it computes.

Paddle 3 saves neither the attributes that it calls extra (a `relu6` without its threshold) nor the outputs that only
gradients would need (a `flatten_contiguous_range` without its `XShape`). Paddle Lite reads both without asking whether
they are there: `lite/operators/*.cc` of 2.13.
"""

from typing import Any

from quantfleet_worker.models.paddle_program import PaddleProgram, load_paddle, old_programs

_WITH_XSHAPE = ("flatten2", "flatten_contiguous_range", "reshape2", "squeeze2", "transpose2", "unsqueeze2")


def restore_extras(program: PaddleProgram) -> None:
    """Set the extra attributes that operators lack to Paddle's defaults, and give reshapes their `XShape`."""
    core = load_paddle().base.core
    with old_programs():
        for block in program.program.blocks:
            for operator in block.ops:
                for name, value in core.get_op_extra_attrs(operator.type).items():
                    if not operator.has_attr(name):
                        operator._set_attr(name, value)
                if operator.type in _WITH_XSHAPE and not _has_output(operator, "XShape"):
                    _add_xshape(block, operator)


def _has_output(operator: Any, slot: str) -> bool:
    return slot in operator.output_names and bool(operator.output(slot))


def _add_xshape(block: Any, operator: Any) -> None:
    (source,), (output,) = operator.input("X"), operator.output("Out")
    name, variable = f"{output}.xshape", block.var(source)
    block.create_var(name=name, shape=[0, *variable.shape], dtype=variable.dtype, persistable=False)
    operator.desc.set_output("XShape", [name])
