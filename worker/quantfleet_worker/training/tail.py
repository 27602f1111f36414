"""What an export appends to a network that returns logits. Not for networks in training.

The operators are appended to the program, not to the network: Paddle 3.3 cannot trace an argmax into an old program.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from quantfleet_worker.models.paddle_program import PaddleProgram, old_programs

_INT32 = 2
"""`int32` in the data types of Paddle's old programs (`framework.proto`, VarType)."""


@dataclass(frozen=True)
class Tail:
    """A softmax over the channels, then their argmax (int32, without the channels' axis); each or none of them."""

    softmax: bool
    argmax: bool

    def append(self, program: PaddleProgram) -> PaddleProgram:
        """The program with these operators behind its first output, which becomes its only one."""
        block, name = program.program.global_block(), program.fetches[0]
        with old_programs():
            for kind, suffix, dtype, attributes in self._operators():
                shape, made = block.var(name).shape, f"{name}.{suffix}"
                shape = shape if kind == "softmax" else (shape[0], *shape[2:])
                block.create_var(name=made, shape=shape, dtype=dtype, persistable=False)
                block.append_op(type=kind, inputs={"X": [name]}, outputs={"Out": [made]}, attrs=attributes)
                name = made
        return replace(program, fetches=(name,))

    def rewrite(self, directory: Path, stem: str) -> None:
        """Append to the program in a directory."""
        self.append(PaddleProgram.load(directory, stem)).save(directory, stem)

    def behind(self, reference: bytes) -> bytes:
        """The ONNX model with these operators behind its first output, which becomes its only one."""
        model = onnx.load_from_string(reference)
        name = model.graph.output[0].name
        for kind, suffix, _, attributes in self._operators():
            made = f"{name}.{suffix}"
            if kind == "softmax":
                node, dtype = (
                    helper.make_node("Softmax", [name], [made], made, axis=attributes["axis"]),
                    TensorProto.FLOAT,
                )
            else:
                node = helper.make_node("ArgMax", [name], [made], made, axis=attributes["axis"], keepdims=0)
                dtype = TensorProto.INT64
            model.graph.node.append(node)
            del model.graph.output[:]
            model.graph.output.append(helper.make_tensor_value_info(made, dtype, None))
            name = made
        return bytes(model.SerializeToString(deterministic=True))

    def _operators(self) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
        if self.softmax:
            yield "softmax", "probabilities", "float32", {"axis": 1}
        if self.argmax:
            yield "arg_max", "classes", "int32", {"axis": 1, "keepdims": False, "flatten": False, "dtype": _INT32}


NO_TAIL = Tail(softmax=False, argmax=False)
