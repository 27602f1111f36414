"""A PIR program (`.json`, Paddle 3's default export) rewritten as an old-format program. Not for training programs.

Paddle's INT8 passes know the old format only, and Paddle translates the other way only. The operators here are those of
convolutional inference models and of text encoders. Whether the rewriting is right is not taken on trust: `prove`
compares outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_files import PaddleFiles
from quantfleet_worker.models.paddle_program import (
    Array,
    PaddleProgram,
    load_paddle,
    old_programs,
    same_values,
    unreadable,
)


@dataclass(frozen=True)
class Rewriting:
    """How a PIR operator is written in the old format; attributes of one name keep their values.

    `constants` are operands that the old operator takes as attributes. `unread` are outputs that it must have and that
    no inference reads.
    """

    kind: str
    inputs: Mapping[str, str] = field(default_factory=lambda: {"x": "X"})
    output: str = "Out"
    attributes: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


_XSHAPE = ("XShape",)
_FILTERED = {"input": "Input", "filter": "Filter"}
_PAIR = {"x": "X", "y": "Y"}
_NORM = {"x": "X", "mean": "Mean", "variance": "Variance", "scale": "Scale", "bias": "Bias"}
_SCALED = {"x": "X", "scale": "Scale", "bias": "Bias"}
_SHAPED = {"x": "X", "out_size": "OutSize", "size_tensor": "SizeTensor", "scale_tensor": "Scale"}

REWRITINGS: Mapping[str, Rewriting] = {
    "conv2d": Rewriting("conv2d", _FILTERED, "Output"),
    "depthwise_conv2d": Rewriting("depthwise_conv2d", _FILTERED, "Output"),
    "batch_norm": Rewriting(
        "batch_norm", _NORM, "Y", {"data_format": "data_layout"}, unread=("SavedMean", "SavedVariance")
    ),
    "layer_norm": Rewriting("layer_norm", _SCALED, "Y", unread=("Mean", "Variance")),
    "embedding": Rewriting("lookup_table_v2", {"x": "Ids", "weight": "W"}),
    "slice": Rewriting("slice", {"input": "Input"}, constants={"starts": "starts", "ends": "ends"}),
    "pool2d": Rewriting("pool2d", constants={"kernel_size": "ksize"}),
    "relu": Rewriting("relu"),
    "relu6": Rewriting("relu6"),
    "leaky_relu": Rewriting("leaky_relu", attributes={"negative_slope": "alpha"}),
    "sigmoid": Rewriting("sigmoid"),
    "hardsigmoid": Rewriting("hard_sigmoid"),
    "hardswish": Rewriting("hard_swish"),
    "swish": Rewriting("swish"),
    "silu": Rewriting("silu"),
    "tanh": Rewriting("tanh"),
    "gelu": Rewriting("gelu"),
    "softmax": Rewriting("softmax"),
    "add": Rewriting("elementwise_add", _PAIR),
    "subtract": Rewriting("elementwise_sub", _PAIR),
    "multiply": Rewriting("elementwise_mul", _PAIR),
    "divide": Rewriting("elementwise_div", _PAIR),
    "matmul": Rewriting("matmul_v2", _PAIR, attributes={"transpose_x": "trans_x", "transpose_y": "trans_y"}),
    "flatten": Rewriting("flatten_contiguous_range", unread=_XSHAPE),
    "reshape": Rewriting("reshape2", constants={"shape": "shape"}, unread=_XSHAPE),
    "transpose": Rewriting("transpose2", attributes={"perm": "axis"}, unread=_XSHAPE),
    "squeeze": Rewriting("squeeze2", constants={"axis": "axes"}, unread=_XSHAPE),
    "unsqueeze": Rewriting("unsqueeze2", constants={"axis": "axes"}, unread=_XSHAPE),
    "concat": Rewriting("concat", constants={"axis": "axis"}),
    "mean": Rewriting("reduce_mean", attributes={"keepdim": "keep_dim"}, constants={"axis": "dim"}),
    "scale": Rewriting("scale", constants={"scale": "scale"}),
    "assign": Rewriting("assign"),
    "cast": Rewriting("cast"),
    "nearest_interp": Rewriting("nearest_interp_v2", _SHAPED),
    "bilinear_interp": Rewriting("bilinear_interp_v2", _SHAPED),
}
"""By the PIR name without `pd_op.` and without the `_` of an in-place operator."""
CONSTANTS = ("full", "full_int_array")


def load_program(files: PaddleFiles) -> PaddleProgram:
    """Load a model of either format as an old-format program.

    Raises QuantfleetError(MODEL_UNREADABLE), or MODEL_UNSUPPORTED naming the PIR operators without a rewriting here.
    """
    if not files.pir:
        return PaddleProgram.load(files.directory, files.stem)
    paddle = load_paddle()
    scope = paddle.static.Scope()
    try:
        with paddle.pir_utils.IrGuard(), paddle.static.scope_guard(scope):
            executor = paddle.static.Executor(paddle.CPUPlace())
            source, _, _ = paddle.static.load_inference_model(str(files.directory / files.stem), executor)
            operators = [_PirOperator.read(operator) for operator in source.global_block().ops]
    except Exception as error:  # Paddle raises whatever its C++ reader meets: there is no common class
        raise unreadable(files.directory, error) from error
    return _Rewriter(files, scope).rewrite(operators)


@dataclass(frozen=True)
class _PirOperator:
    """A PIR operator in plain values; tensors by the identity of their value."""

    name: str
    attributes: Mapping[str, Any]
    operands: Mapping[str, str]
    positional: tuple[str, ...]
    results: tuple[str, ...]
    shapes: tuple[Any, ...]
    dtypes: tuple[Any, ...]

    @classmethod
    def read(cls, operator: Any) -> "_PirOperator":
        full = operator.name()
        sources = tuple(_identity(value) for value in operator.operands_source())
        dialect = full.startswith("pd_op.")
        tensors = [value for value in operator.results() if value.is_dense_tensor_type()]
        return cls(
            full.removeprefix("pd_op.").removesuffix("_"),
            dict(operator.attrs()),
            dict(zip(operator.get_input_names(), sources, strict=True)) if dialect else {},
            sources,
            tuple(_identity(value) for value in operator.results()),
            tuple(tuple(value.shape) for value in tensors),
            tuple(value.dtype for value in tensors),
        )


def prove(files: PaddleFiles, program: PaddleProgram, feeds: Mapping[str, Array]) -> None:
    """Compare a rewritten (and normalised) program with the PIR program itself on one batch.

    Raises QuantfleetError(MODEL_UNSUPPORTED) where their outputs differ.
    """
    paddle = load_paddle()
    with paddle.pir_utils.IrGuard(), paddle.static.scope_guard(paddle.static.Scope()):
        executor = paddle.static.Executor(paddle.CPUPlace())
        source, _, fetches = paddle.static.load_inference_model(str(files.directory / files.stem), executor)
        expected = executor.run(source, feed=dict(feeds), fetch_list=fetches)
    found = program.run(feeds, program.fetches)
    for name, values in zip(program.fetches, expected, strict=True):
        if values.shape != found[name].shape or not same_values(values, found[name]):
            raise QuantfleetError(
                ErrorCode.MODEL_UNSUPPORTED,
                f"{files.program} and its old-format form give different outputs {name}",
                "export the model with FLAGS_enable_pir_api=0",
            )


def _identity(value: Any) -> str:
    """Empty for an operand that is left out."""
    return str(value.id) if value.initialized() else ""


class _Rewriter:
    """Builds the old program; `names` holds variables, `values` constants and `lists` combined tensors, by identity."""

    def __init__(self, files: PaddleFiles, scope: Any) -> None:
        self._files = files
        self._scope = scope
        self._names: dict[str, str] = {}
        self._values: dict[str, Any] = {}
        self._lists: dict[str, tuple[str, ...]] = {}
        self._feeds: list[str] = []
        self._fetches: list[str] = []

    def rewrite(self, operators: list[_PirOperator]) -> PaddleProgram:
        plain = ("builtin.parameter", "builtin.combine", "data", "fetch", *CONSTANTS)
        unknown = {operator.name for operator in operators} - REWRITINGS.keys() - set(plain)
        if unknown:
            raise self._unsupported(f"the operators {', '.join(sorted(unknown))}")
        # A fetched tensor takes the name under which Paddle Inference gives it out.
        fetched = {
            operator.positional[0]: operator.attributes["name"] for operator in operators if operator.name == "fetch"
        }
        with old_programs():
            paddle = load_paddle()
            program = paddle.static.Program()
            block = program.global_block()
            for index, operator in enumerate(operators):
                self._rewrite_one(block, operator, f"{operator.name}_{index}.out", fetched)
            executor = paddle.static.Executor(paddle.CPUPlace())
        return PaddleProgram(program, self._scope, executor, tuple(self._feeds), tuple(self._fetches))

    def _rewrite_one(self, block: Any, operator: _PirOperator, name: str, fetched: Mapping[str, str]) -> None:
        if operator.name in CONSTANTS:
            value = operator.attributes["value"]
            whole = operator.name == "full" and np.dtype(_dtype(operator.dtypes[0])).kind == "i"
            self._values[operator.results[0]] = int(value) if whole else value  # a PIR constant is always a float
        elif operator.name == "builtin.combine":
            self._lists[operator.results[0]] = operator.positional
        elif operator.name == "fetch":
            self._fetches.append(self._names[operator.positional[0]])
        elif operator.name in ("builtin.parameter", "data"):
            parameter = operator.name == "builtin.parameter"
            name = operator.attributes["parameter_name" if parameter else "name"]
            dtype = _dtype(operator.dtypes[0])
            block.create_var(name=name, shape=operator.shapes[0], dtype=dtype, persistable=parameter)
            self._names[operator.results[0]] = name
            if not parameter:
                self._feeds.append(name)
        else:
            name = fetched.get(operator.results[0], name)
            self._append(block, operator, REWRITINGS[operator.name], name)
            self._names[operator.results[0]] = name

    def _append(self, block: Any, operator: _PirOperator, rewriting: Rewriting, name: str) -> None:
        attributes: dict[str, Any] = {}
        holder = load_paddle().base.framework.OpProtoHolder.instance()
        known = {attribute.name for attribute in holder.get_op_proto(rewriting.kind).attrs}
        for key, value in operator.attributes.items():
            target = rewriting.attributes.get(key, key)
            if target in known:
                attributes[target] = value
        inputs: dict[str, list[str]] = {}
        for operand, identity in operator.operands.items():
            if not identity:
                continue
            if operand in rewriting.constants:
                if identity not in self._values:
                    raise self._unsupported(f"a {operator.name} whose {operand} is computed while it runs")
                attributes[rewriting.constants[operand]] = self._values[identity]
            elif operand in rewriting.inputs:
                identities = self._lists.get(identity, (identity,))
                inputs[rewriting.inputs[operand]] = [self._names[tensor] for tensor in identities]
        outputs = {rewriting.output: [self._create(block, name, operator)]}
        if rewriting.kind == "batch_norm":
            outputs |= {"MeanOut": inputs["Mean"], "VarianceOut": inputs["Variance"]}
        if rewriting.kind == "cast":
            attributes = {"in_dtype": block.var(inputs["X"][0]).dtype, "out_dtype": block.var(name).dtype}
        outputs |= {slot: [self._create(block, f"{name}.{slot}", operator)] for slot in rewriting.unread}
        block.append_op(type=rewriting.kind, inputs=inputs, outputs=outputs, attrs=attributes)

    @staticmethod
    def _create(block: Any, name: str, operator: _PirOperator) -> str:
        block.create_var(name=name, shape=operator.shapes[0], dtype=_dtype(operator.dtypes[0]), persistable=False)
        return name

    def _unsupported(self, what: str) -> QuantfleetError:
        return QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"{self._files.program} is a PIR program with {what}, which has no form that Paddle can quantize",
            "export it with FLAGS_enable_pir_api=0, or run INT8 in onnxruntime-cpu; FP32 runs here as it is",
        )


def _dtype(dtype: Any) -> str:
    return str(np.dtype(load_paddle().base.data_feeder.convert_dtype(dtype)))
