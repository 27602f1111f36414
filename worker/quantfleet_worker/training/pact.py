"""PACT: activations clipped at a bound that is trained. Not for the fake quantization behind it.

https://arxiv.org/abs/1805.06085, in PaddleSlim's two-sided form (`paddleslim/quant/quanter.py`, `pact`): x is clipped
to [−u, u], u starts at 20 and has L2 decay 1e-4. PaddleSlim inserts it after the gradients, where Paddle 3.3 leaves one
of them without memory; here it is inserted before them.
"""

from collections.abc import Collection
from typing import Any

from quantfleet_worker.models.paddle_program import load_paddle
from quantfleet_worker.quantizers.paddle_ranges import operands

CLIPPED = ".pact"
"""The suffix of a clipped tensor's name."""
BOUND = 20.0
DECAY = 1e-4


def insert_pact(program: Any, kinds: Collection[str]) -> None:
    """Clip what the operators of `kinds` read, in the current program guard, whose startup program sets the bounds."""
    block = program.global_block()
    readers: dict[str, list[Any]] = {}
    for operator in block.ops:
        if operator.type in kinds:
            readers.setdefault(operands(operator)[0], []).append(operator)
    for name, operators in readers.items():
        _clip(block, name, block.ops.index(operators[0]))
        for operator in operators:
            operator._rename_input(name, name + CLIPPED)
    program._sync_with_cpp()


def _clip(block: Any, name: str, index: int) -> None:
    paddle, source = load_paddle(), block.var(name)
    attributes = paddle.ParamAttr(
        name=f"{name}{CLIPPED}_bound",
        initializer=paddle.nn.initializer.Constant(BOUND),
        regularizer=paddle.regularizer.L2Decay(DECAY),
    )
    bound = paddle.static.create_parameter([1], "float32", attr=attributes)
    steps = [
        ("elementwise_sub", {"X": name, "Y": bound.name}, "over"),
        ("relu", {"X": f"{name}{CLIPPED}_over"}, "excess"),
        ("elementwise_sub", {"X": name, "Y": f"{name}{CLIPPED}_excess"}, "below"),
        ("elementwise_add", {"X": f"{name}{CLIPPED}_below", "Y": bound.name}, "under"),
        ("scale", {"X": f"{name}{CLIPPED}_under"}, "short"),
        ("relu", {"X": f"{name}{CLIPPED}_short"}, "shortage"),
        ("elementwise_add", {"X": f"{name}{CLIPPED}_below", "Y": f"{name}{CLIPPED}_shortage"}, ""),
    ]
    for offset, (kind, inputs, label) in enumerate(steps):
        output = f"{name}{CLIPPED}_{label}" if label else name + CLIPPED
        block.create_var(name=output, shape=source.shape, dtype=source.dtype, persistable=False)
        block._insert_op(
            index + offset,
            type=kind,
            inputs={slot: [value] for slot, value in inputs.items()},
            outputs={"Out": [output]},
            attrs={"scale": -1.0} if kind == "scale" else {},
        )
