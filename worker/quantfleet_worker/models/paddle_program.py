"""A Paddle inference program of the old format (`.pdmodel`) that can be rewritten, run and saved. Not for timing."""

import heapq
import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.errors import ErrorCode, QuantfleetError

Array = NDArray[Any]

CONVOLUTIONS = ("conv2d", "depthwise_conv2d")
PRODUCTS = ("matmul_v2", "matmul", "mul")
TOLERANCE = 1e-4
"""Largest difference of two float32 computations of one tensor, in parts of its largest magnitude."""


def load_paddle() -> Any:
    """The `paddle` module, which takes seconds to import. Untyped: its annotations cover a part of it.

    Raises QuantfleetError(ENGINE_MISSING).
    """
    try:
        importlib.import_module("zlib")  # after Paddle 2.6 for GPUs, which has symbols of the same names, it crashes
        return importlib.import_module("paddle")
    except ImportError as error:
        raise QuantfleetError(
            ErrorCode.ENGINE_MISSING, f"paddlepaddle cannot be imported: {error}", "pip install 'quantfleet[paddle]'"
        ) from error


def same_values(first: Array, second: Array) -> bool:
    """Whether two arrays of one shape are computations of one tensor, within `TOLERANCE`."""
    peak = float(np.max(np.abs(first), initial=0.0))
    return bool(np.max(np.abs(first - second), initial=0.0) <= TOLERANCE * peak)


@contextmanager
def old_programs() -> Iterator[None]:
    """Make Paddle's static API work on old-format programs inside the block, whatever the process's default is."""
    paddle = load_paddle()
    if hasattr(paddle.pir_utils, "OldIrGuard"):
        with paddle.pir_utils.OldIrGuard():
            yield
        return
    dynamic = paddle.in_dynamic_mode()  # Paddle 2.6 makes old programs only, and these in its static mode only
    paddle.enable_static()
    try:
        yield
    finally:
        if dynamic:
            paddle.disable_static()


@dataclass(frozen=True)
class PaddleProgram:
    """A loaded program with its parameters in a scope of its own. `program`, `scope` and `executor` are Paddle's."""

    program: Any
    scope: Any
    executor: Any
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]

    @classmethod
    def load(cls, directory: Path, stem: str) -> "PaddleProgram":
        """Load `stem.pdmodel` and `stem.pdiparams`; raises QuantfleetError(MODEL_UNREADABLE) where they are damaged."""
        paddle = load_paddle()
        scope = paddle.static.Scope()
        executor = paddle.static.Executor(paddle.CPUPlace())
        try:
            with old_programs(), paddle.static.scope_guard(scope):
                program, feeds, fetches = paddle.static.load_inference_model(str(directory / stem), executor)
                return cls(program, scope, executor, tuple(feeds), tuple(variable.name for variable in fetches))
        except Exception as error:  # Paddle raises whatever its C++ reader meets: there is no common class
            raise unreadable(directory, error) from error

    @property
    def operators(self) -> list[Any]:
        """The operators of the main block, in the order in which they run."""
        return list(self.program.global_block().ops)

    def parameter(self, name: str) -> Array:
        """A copy of a parameter's values."""
        return np.array(self.scope.find_var(name).get_tensor())

    def is_parameter(self, name: str) -> bool:
        """Whether a variable comes from the parameter file: it is persistable, and a tensor (the feed list is not)."""
        block = self.program.global_block()
        types = load_paddle().base.core.VarDesc.VarType
        tensor = types.DENSE_TENSOR if hasattr(types, "DENSE_TENSOR") else types.LOD_TENSOR  # its name in Paddle 2.6
        return bool(block.has_var(name) and block.var(name).persistable and block.var(name).type == tensor)

    def set_parameter(self, name: str, values: Array, dtype: str = "float32") -> None:
        """Set a parameter's values, making it where there is none of this name; it gets this dtype."""
        block = self.program.global_block()
        if not block.has_var(name):
            block.create_var(name=name, shape=values.shape, dtype=dtype, persistable=True)
        with old_programs():
            block.var(name).desc.set_dtype(load_paddle().base.framework.convert_np_dtype_to_dtype_(dtype))
        tensor = self.scope.var(name).get_tensor()
        tensor.set(np.ascontiguousarray(values, dtype=dtype), load_paddle().CPUPlace())

    def of_type(self, *types: str) -> Iterator[Any]:
        """The operators of these types in order, without those that are taken out meanwhile."""
        for operator in [operator for operator in self.operators if operator.type in types]:
            if operator.desc is not None:
                yield operator

    def consumers(self, name: str) -> list[Any]:
        """The operators that read a variable."""
        return [operator for operator in self.operators if name in operator.input_arg_names]

    def producers(self) -> dict[str, Any]:
        """The operator that writes each variable; the last one where there are several."""
        return {name: operator for operator in self.operators for name in operator.output_arg_names}

    def remove(self, operator: Any) -> int:
        """Take an operator out; returns the place where it was. The operator must not be used afterwards."""
        block = self.program.global_block()
        index: int = block.ops.index(operator)
        block._remove_op(index)
        operator.desc = None  # Paddle has freed it: whoever still holds the operator is to fail, not to read on
        return index

    def declare_inputs(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Change the declared input shapes and what follows from them; an open batch axis stays open.

        A declared shape does not bind Paddle (a text classifier declared as 32×100 is fed 48×192), but converters
        believe it. Raises QuantfleetError(JOB_INVALID) for a shape that the operators cannot take.
        """
        block = self.program.global_block()
        for name in set(self.feeds) & shapes.keys():
            declared, wanted = block.var(name).shape, list(shapes[name])
            if len(declared) == len(wanted):
                block.var(name).desc.set_shape([-1 if declared[0] < 0 else wanted[0], *wanted[1:]])
        try:
            for operator in self.operators:
                if operator.type not in ("feed", "fetch"):
                    operator.desc.infer_shape(block.desc)
        except Exception as error:  # Paddle raises whatever its C++ shape functions meet
            raise QuantfleetError(
                ErrorCode.JOB_INVALID,
                f"input_shapes: the model cannot take {dict(shapes)}: {said(error)}",
                "correct the shape in the job",
            ) from error

    def in_canonical_order(self) -> "PaddleProgram":
        """The program with its operators in the one topological order that takes the least output name first.

        Paddle's graph passes order what may run in either order by memory addresses.
        """
        producers, operators = self.producers(), self.operators
        waiting = {
            index: {
                id(producers[name])
                for name in operator.input_arg_names
                if name in producers and producers[name] is not operator and not self.is_parameter(name)
            }
            for index, operator in enumerate(operators)
        }
        ready = [(operators[index].output_arg_names, index) for index, needed in waiting.items() if not needed]
        heapq.heapify(ready)
        desc = self.program.global_block().desc
        while ready:
            _, done = heapq.heappop(ready)
            desc.append_op().copy_from(operators[done].desc)
            for index, needed in waiting.items():
                if id(operators[done]) in needed:
                    needed.remove(id(operators[done]))
                    if not needed:
                        heapq.heappush(ready, (operators[index].output_arg_names, index))
        desc._remove_op(0, len(operators))
        parse = load_paddle().base.framework.Program.parse_from_string
        return replace(self, program=parse(self.program.desc.serialize_to_string()))

    def run(self, feeds: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
        """Run the program on one batch and fetch the named variables."""
        with old_programs(), load_paddle().static.scope_guard(self.scope):
            values = self.executor.run(self.program, feed=dict(feeds), fetch_list=list(names), return_numpy=True)
        return dict(zip(names, values, strict=True))

    def save(self, directory: Path, stem: str, *, keep_extra: bool = False) -> None:
        """Write `stem.pdmodel` and `stem.pdiparams`, with `keep_extra` also attributes that Paddle can do without."""
        paddle, block = load_paddle(), self.program.global_block()
        with old_programs(), paddle.static.scope_guard(self.scope):
            paddle.static.save_inference_model(
                str(directory / stem),
                [block.var(name) for name in self.feeds],
                [block.var(name) for name in self.fetches],
                self.executor,
                program=self.program,
                clip_extra=not keep_extra,
            )
        _forget_callers(directory / f"{stem}.pdmodel")


def _forget_callers(program: Path) -> None:
    """Take out in which Python file each operator was made: paths of this machine, which say nothing of the model."""
    messages = importlib.import_module("paddle.base.proto.framework_pb2")
    description = messages.ProgramDesc.FromString(program.read_bytes())
    for operator in (operator for block in description.blocks for operator in block.ops):
        kept = [attribute for attribute in operator.attrs if attribute.name != "op_callstack"]
        del operator.attrs[:]
        operator.attrs.extend(kept)
    program.write_bytes(description.SerializeToString(deterministic=True))


def said(error: Exception) -> str:
    """The telling line of what Paddle raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error" in line), lines[0] if lines else type(error).__name__)


def unreadable(model: Path, error: Exception) -> QuantfleetError:
    """The error for a model that Paddle cannot load, with the telling line of what Paddle said."""
    return QuantfleetError(
        ErrorCode.MODEL_UNREADABLE,
        f"Paddle cannot read the model in {model}: {said(error)}",
        "check that the program and its parameter file are complete and belong together",
    )
