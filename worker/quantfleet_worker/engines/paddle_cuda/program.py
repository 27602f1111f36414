"""What Paddle gave to TensorRT, from the program that its passes left. Pure: not for making one.

`Config.enable_save_optim_model` has Paddle write the program after its passes (save_optimized_model_pass.cc). An
operator `tensorrt_engine` in it stands for a subgraph; its attribute `subgraph` is a serialised block with the
operators, in which every variable that is no input of the engine is called `NAME_subgraph_NODE` (Paddle 2.6:
tensorrt_subgraph_pass.cc, `CreateTensorRTOp`; subgraph_util.cc, `RenameAndGetOutputs` and `RenameVarBeUnique`). By
those names TensorRT knows its tensors.
"""

import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

_RENAMED = re.compile(r"(.+)_subgraph_\d+")
_NO_WORK = ("feed", "fetch")


@dataclass(frozen=True)
class Operator:
    """An operator by its type; `inputs` and `outputs` are variables as TensorRT knows them."""

    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Subgraph:
    """What became one TensorRT engine. Its files are named by `engine_key` (`trt_serialized_`, `engine_info_`) and
    `table_key` (`trt_calib_`); `has_table` says whether Paddle found that table. `parameters` are constants among the
    operators' inputs."""

    engine_key: str
    table_key: str
    has_table: bool
    parameters: frozenset[str]
    operators: tuple[Operator, ...]

    def tensors(self) -> tuple[str, ...]:
        """The tensors that the operators read and write, without constants, each once, in order."""
        names = (name for operator in self.operators for name in (*operator.inputs, *operator.outputs))
        return tuple(dict.fromkeys(name for name in names if name not in self.parameters))


@dataclass(frozen=True)
class OptimizedProgram:
    """What went into TensorRT, and the operators that Paddle runs itself."""

    subgraphs: tuple[Subgraph, ...]
    outside: tuple[Operator, ...]


def read_optimized(content: bytes) -> OptimizedProgram:
    """Read a `_optimized.pdmodel`. Raises ValueError for what is none."""
    messages, main = _main_block(content)
    subgraphs, outside = [], []
    for operator in main.ops:
        if operator.type == "tensorrt_engine":
            subgraphs.append(_subgraph(operator, messages.BlockDesc))
        elif operator.type not in _NO_WORK:
            outside.append(_operator(operator))
    return OptimizedProgram(tuple(subgraphs), tuple(outside))


def behind_biases(content: bytes) -> dict[str, str]:
    """The sums with a constant of a `.pdmodel`, by what is added to. Paddle's passes for TensorRT make one operator of
    a convolution and such a sum, under the sum's name (conv_elementwise_add_fuse_pass.cc).

    Raises ValueError for what is no program.
    """
    _, main = _main_block(content)
    constants = {variable.name for variable in main.vars if variable.persistable}
    found = {}
    for operator in main.ops:
        slots = {slot.parameter: list(slot.arguments) for slot in operator.inputs}
        if operator.type == "elementwise_add" and constants.issuperset(slots.get("Y", [])):
            found[str(slots["X"][0])] = str(operator.outputs[0].arguments[0])
    return found


def original(tensor: str) -> str:
    """The model's name of a tensor that TensorRT knows by this one."""
    renamed = _RENAMED.fullmatch(tensor)
    return renamed[1] if renamed else tensor


def _main_block(content: bytes) -> tuple[Any, Any]:
    """Paddle's messages, untyped, and the main block of a program."""
    messages: Any = importlib.import_module("paddle.base.proto.framework_pb2")
    try:
        return messages, messages.ProgramDesc.FromString(content).blocks[0]
    except (DecodeError, IndexError) as error:
        raise ValueError("it is no Paddle program") from error


def _subgraph(operator: Any, block_type: Any) -> Subgraph:
    attributes = {item.name: item for item in operator.attrs}
    block = block_type.FromString(_bytes(attributes["subgraph"].s))
    return Subgraph(
        engine_key=str(attributes["engine_key"].s),
        table_key=str(attributes["calibration_engine_key"].s),
        has_table=bool(attributes["calibration_data"].s),
        parameters=frozenset(attributes["parameters"].strings),
        operators=tuple(_operator(item) for item in block.ops),
    )


def _bytes(value: str | bytes) -> bytes:
    """The attribute's own bytes: the field is declared as text, and Python shows it as that where it happens to be."""
    return value if isinstance(value, bytes) else value.encode()


def _operator(operator: Any) -> Operator:
    return Operator(str(operator.type), _arguments(operator.inputs), _arguments(operator.outputs))


def _arguments(slots: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(name) for slot in slots for name in slot.arguments)
