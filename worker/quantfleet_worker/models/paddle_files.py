"""A Paddle inference model directory: its files, and what they say of the model. Not for running or converting it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_program import CONVOLUTIONS, PaddleProgram, load_paddle, old_programs, unreadable
from quantfleet_worker.models.paddle_quantization import Quantization, QuantizedLayers, quantized_layers


@dataclass(frozen=True)
class PaddleFiles:
    """Where a model's program and parameters are; `pir` where the program is Paddle 3's `.json`."""

    directory: Path
    stem: str
    pir: bool

    @property
    def program(self) -> Path:
        """The program file."""
        return self.directory / f"{self.stem}{'.json' if self.pir else '.pdmodel'}"

    @property
    def parameters(self) -> Path:
        """The parameter file."""
        return self.directory / f"{self.stem}.pdiparams"


def find_files(directory: Path) -> PaddleFiles:
    """Find the program and its parameters; of two forms of one model the `.pdmodel` is taken.

    Raises QuantfleetError(MODEL_NOT_FOUND) where there is none, MODEL_UNREADABLE where a part lacks or there are
    several.
    """
    if not directory.is_dir():
        raise QuantfleetError(
            ErrorCode.MODEL_NOT_FOUND,
            f"{directory} is not a directory",
            "a Paddle model is a directory with a .pdmodel or .json program and its .pdiparams",
        )
    programs = {path.stem: path for path in sorted(directory.glob("*.json")) if path.with_suffix(".pdiparams").exists()}
    programs |= {path.stem: path for path in sorted(directory.glob("*.pdmodel"))}
    if len(programs) > 1:
        raise QuantfleetError(
            ErrorCode.MODEL_UNREADABLE,
            f"{directory} holds several models: {', '.join(path.name for path in programs.values())}",
            "keep one model to a directory",
        )
    if not programs:
        parameters = next(iter(sorted(directory.glob("*.pdiparams"))), None)
        if parameters is None:
            raise QuantfleetError(
                ErrorCode.MODEL_NOT_FOUND,
                f"{directory} holds no Paddle inference model",
                "a Paddle model is a directory with a .pdmodel or .json program and its .pdiparams",
            )
        raise QuantfleetError(
            ErrorCode.MODEL_UNREADABLE,
            f"{parameters} has no program beside it",
            f"put {parameters.stem}.pdmodel or {parameters.stem}.json into the directory",
        )
    program = next(iter(programs.values()))
    files = PaddleFiles(directory, program.stem, program.suffix == ".json")
    if not files.parameters.exists():
        raise QuantfleetError(
            ErrorCode.MODEL_UNREADABLE,
            f"{program} has no parameter file beside it",
            f"put {files.parameters.name} into the directory",
        )
    return files


def check(files: PaddleFiles) -> None:
    """Load the model as Paddle's own reader does; raises QuantfleetError(MODEL_UNREADABLE) where it is damaged."""
    paddle = load_paddle()
    if not files.pir:
        PaddleProgram.load(files.directory, files.stem)
        return
    try:
        with paddle.pir_utils.IrGuard(), paddle.static.scope_guard(paddle.static.Scope()):
            executor = paddle.static.Executor(paddle.CPUPlace())
            paddle.static.load_inference_model(str(files.directory / files.stem), executor)
    except Exception as error:  # Paddle raises whatever its C++ reader meets: there is no common class
        raise unreadable(files.directory, error) from error


@dataclass(frozen=True)
class Signature:
    """What a program file says: inputs by name (shape with None for a dynamic dimension, dtype), and its quantization.

    `layers` of a PIR program are told only where it is in float.
    """

    inputs: dict[str, tuple[tuple[int | None, ...], np.dtype[Any]]]
    layers: QuantizedLayers


def read_signature(files: PaddleFiles) -> Signature:
    """Read the program file without its parameters. Raises QuantfleetError(MODEL_UNREADABLE)."""
    paddle = load_paddle()
    try:
        if files.pir:
            return _pir_signature(files.program)
        with old_programs():
            block = paddle.static.deserialize_program(files.program.read_bytes()).global_block()
            feeds = [operator.output("Out")[0] for operator in block.ops if operator.type == "feed"]
            variables = [block.var(name) for name in feeds]
            inputs = {item.name: (_shape(item.shape), np.dtype(dtype_name(item.dtype))) for item in variables}
            return Signature(inputs, quantized_layers(block))
    except Exception as error:  # Paddle raises whatever its C++ reader meets: there is no common class
        raise unreadable(files.directory, error) from error


def _pir_signature(program: Path) -> Signature:
    paddle = load_paddle()
    inputs: dict[str, tuple[tuple[int | None, ...], np.dtype[Any]]] = {}
    how, in_float, parameters = Quantization.NONE, [], set()
    with paddle.pir_utils.IrGuard():
        loaded = paddle.static.Program()
        paddle.base.core.deserialize_pir_program(str(program), loaded)
        for index, operator in enumerate(loaded.global_block().ops):
            name, attributes = operator.name().removeprefix("pd_op."), operator.attrs()
            if name == "builtin.parameter":
                parameters.add(operator.result(0).id)
            elif name == "data":
                dtype = np.dtype(dtype_name(operator.result(0).dtype))
                inputs[attributes["name"]] = (_shape(attributes["shape"]), dtype)
            elif "quantize" in name:
                how = Quantization.STATIC
            elif name in (*CONVOLUTIONS, "matmul") and parameters & {value.id for value in operator.operands_source()}:
                in_float.append((f"{name}_{index}", name))
    return Signature(inputs, QuantizedLayers(how, (), tuple(in_float)))


def _shape(dimensions: list[int]) -> tuple[int | None, ...]:
    return tuple(None if dimension < 0 else int(dimension) for dimension in dimensions)


def dtype_name(dtype: Any) -> str:
    """numpy's name of a dtype of Paddle's."""
    return str(load_paddle().base.data_feeder.convert_dtype(dtype))
