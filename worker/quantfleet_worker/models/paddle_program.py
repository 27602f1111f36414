"""A Paddle inference program of the old format (`.pdmodel`) that can be rewritten, run and saved. Not for timing.

`normalize` gives the program the form that calibration and quantization share: the same tensors exist in it and in the
reference graph, and oneDNN can fuse what it has to fuse.
"""

import importlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.errors import ErrorCode, QuantfleetError

Array = NDArray[Any]

CONVOLUTIONS = ("conv2d", "depthwise_conv2d")
PRODUCTS = ("matmul_v2", "matmul", "mul")


def load_paddle() -> Any:
    """The `paddle` module, which takes seconds to import. Untyped: its annotations cover a part of it.

    Raises QuantfleetError(ENGINE_MISSING).
    """
    try:
        return importlib.import_module("paddle")
    except ImportError as error:
        raise QuantfleetError(
            ErrorCode.ENGINE_MISSING, f"paddlepaddle cannot be imported: {error}", "pip install 'quantfleet[paddle]'"
        ) from error


@contextmanager
def old_programs() -> Iterator[None]:
    """Make Paddle's static API work on old-format programs inside the block, whatever the process's default is."""
    with load_paddle().pir_utils.OldIrGuard():
        yield


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
        """Whether a variable is persistable, i.e. comes from the parameter file."""
        block = self.program.global_block()
        return bool(block.has_var(name) and block.var(name).persistable)

    def run(self, feeds: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
        """Run the program on one batch and fetch the named variables."""
        with old_programs(), load_paddle().static.scope_guard(self.scope):
            values = self.executor.run(self.program, feed=dict(feeds), fetch_list=list(names), return_numpy=True)
        return dict(zip(names, values, strict=True))

    def save(self, directory: Path, stem: str) -> None:
        """Write `stem.pdmodel` and `stem.pdiparams`."""
        paddle, block = load_paddle(), self.program.global_block()
        with old_programs(), paddle.static.scope_guard(self.scope):
            paddle.static.save_inference_model(
                str(directory / stem),
                [block.var(name) for name in self.feeds],
                [block.var(name) for name in self.fetches],
                self.executor,
                program=self.program,
                clip_extra=True,
            )

    def normalize(self) -> None:
        """Rewrite the program in place; its outputs stay the same up to float32 rounding.

        A variable that is written twice gets a name for each value. A batch normalisation (inference form) behind a
        convolution is folded: with s = gamma/√(var + eps) the filter is scaled by s per output channel and
        beta + s·(bias − mean) becomes the bias, computed in float64. A convolution's bias is added straight from its
        parameter (`elementwise_add`, axis 1), which is the form that oneDNN fuses.

        Raises QuantfleetError(MODEL_UNSUPPORTED) for a program with control flow.
        """
        if self.program.num_blocks != 1:
            raise QuantfleetError(
                ErrorCode.MODEL_UNSUPPORTED,
                f"the Paddle program has control flow ({self.program.num_blocks} blocks)",
                "export the model without conditional blocks and loops",
            )
        with old_programs():
            self._name_every_value()
            self._attach_biases()
            self._fold_batch_norms()

    def _name_every_value(self) -> None:
        block = self.program.global_block()
        current: dict[str, str] = {}
        written: Counter[str] = Counter()
        for operator in self.operators:
            for old in set(operator.input_arg_names):
                if old in current:
                    operator._rename_input(old, current[old])
            for name in set(operator.output_arg_names):
                if self.is_parameter(name):
                    continue
                written[name] += 1
                if written[name] > 1:
                    source, new = block.var(name), f"{name}.value{written[name]}"
                    block.create_var(name=new, shape=source.shape, dtype=source.dtype, persistable=False)
                    operator._rename_output(name, new)
                    current[name] = new
        object.__setattr__(self, "fetches", tuple(current.get(name, name) for name in self.fetches))

    def _consumers(self, name: str) -> list[Any]:
        return [operator for operator in self.operators if name in operator.input_arg_names]

    def _set_parameter(self, name: str, values: Array) -> None:
        block = self.program.global_block()
        if not block.has_var(name):
            block.create_var(name=name, shape=values.shape, dtype="float32", persistable=True)
        self.scope.var(name).get_tensor().set(np.ascontiguousarray(values, dtype=np.float32), load_paddle().CPUPlace())

    def _replace(self, operator: Any, source: str, bias: str, output: str) -> None:
        block = self.program.global_block()
        index = block.ops.index(operator)
        block._remove_op(index)
        block._insert_op(
            index,
            type="elementwise_add",
            inputs={"X": [source], "Y": [bias]},
            outputs={"Out": [output]},
            attrs={"axis": 1},
        )

    def _attach_biases(self) -> None:
        makers = {name: operator for operator in self.operators for name in operator.output_arg_names}
        for add in [operator for operator in self.operators if operator.type == "elementwise_add"]:
            source, bias = add.input("X")[0], add.input("Y")[0]
            maker, reshape = makers.get(source), makers.get(bias)
            if maker is None or maker.type not in CONVOLUTIONS or reshape is None:
                continue
            if reshape.type not in ("reshape2", "unsqueeze2") or not self.is_parameter(reshape.input("X")[0]):
                continue
            parameter, channels = reshape.input("X")[0], self.parameter(maker.input("Filter")[0]).shape[0]
            if self.parameter(parameter).shape != (channels,) or tuple(self.program.global_block().var(bias).shape) != (
                1,
                channels,
                1,
                1,
            ):
                continue
            self._replace(add, source, parameter, add.output("Out")[0])
            if not self._consumers(bias):
                block = self.program.global_block()
                block._remove_op(block.ops.index(reshape))

    def _fold_batch_norms(self) -> None:
        block = self.program.global_block()
        makers = {name: operator for operator in self.operators for name in operator.output_arg_names}
        for norm in [operator for operator in self.operators if operator.type == "batch_norm"]:
            if not (norm.attr("is_test") or norm.attr("use_global_stats")):
                continue
            source = norm.input("X")[0]
            maker, bias, add = makers.get(source), None, None
            if maker is not None and maker.type == "elementwise_add" and self.is_parameter(maker.input("Y")[0]):
                add, bias, source = maker, self.parameter(maker.input("Y")[0]), maker.input("X")[0]
                maker = makers.get(source) if add.attr("axis") == 1 and bias.ndim == 1 else None
            if maker is None or maker.type not in CONVOLUTIONS or len(self._consumers(source)) != 1:
                continue
            weight = maker.input("Filter")[0]
            if len(self._consumers(weight)) != 1 or len(self._consumers(norm.input("X")[0])) != 1:
                continue
            gamma, beta, mean, variance = (
                self.parameter(norm.input(slot)[0]).astype(np.float64) for slot in ("Scale", "Bias", "Mean", "Variance")
            )
            factor = gamma / np.sqrt(variance + float(norm.attr("epsilon")))
            filters = self.parameter(weight).astype(np.float64)
            self._set_parameter(weight, filters * factor.reshape(-1, 1, 1, 1))
            folded, output = f"{weight}.folded_bias", norm.output("Y")[0]
            self._set_parameter(folded, beta + factor * ((0.0 if bias is None else bias) - mean))
            if add is not None:
                block._remove_op(block.ops.index(add))
            self._replace(norm, source, folded, output)


def unreadable(model: Path, error: Exception) -> QuantfleetError:
    """The error for a model that Paddle cannot load, with the last telling line of what Paddle said."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "Error" in line), lines[0] if lines else type(error).__name__)
    return QuantfleetError(
        ErrorCode.MODEL_UNREADABLE,
        f"Paddle cannot read the model in {os.fspath(model)}: {said}",
        "check that the program and its parameter file are complete and belong together",
    )
