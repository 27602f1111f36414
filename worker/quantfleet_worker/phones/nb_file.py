"""What a Paddle Lite model file (`.nb`) says of itself: kernels, inputs, outputs. Not for running or making one.

Sources, of Paddle-Lite 2.13: the file's layout above `LoadModelNaiveFromFile` in lite/model_parser/model_parser.cc, the
schema lite/model_parser/flatbuffers/framework.fbs, a kernel's text in `SerializeKernelType` of lite/core/kernel.cc, the
numbers in it in lite/api/paddle_place.h, and the order of inputs and outputs in `PrepareFeedFetch` of
lite/api/light_api.cc. The file does not name the ABI: one for ARM serves armv7 and armv8.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.base import NodeCounts
from quantfleet_worker.phones.flatbuffer import Table

TARGET = "arm"
"""The target of phones and boards."""
WEIGHTED = frozenset(
    {"conv2d", "conv2d_transpose", "depthwise_conv2d", "depthwise_conv2d_transpose", "fc", "matmul", "matmul_v2", "mul"}
)
"""The operators that Lite's quantizers quantize."""
_TARGETS = (
    "unknown", "host", "x86", "cuda", "arm", "opencl", "any", "fpga", "npu", "xpu", "bm", "mlu", "rknpu", "apu",
    "huawei-ascend-npu", "imagination-nna", "intel-fpga", "metal", "nnadapter",
)  # fmt: skip
_PRECISIONS = ("unknown", "fp32", "int8", "int32", "any", "fp16", "bool", "int64", "int16", "uint8", "fp64")
_LAYOUTS = ("unknown", "NCHW", "any", "NHWC", "image", "image-folder", "image-nw", "metal-2d-array", "metal-2d")
_NEUTRAL = frozenset({"unknown", "host", "any"})
"""Targets whose kernels are in every build of Lite."""
_HEAD = struct.Struct("<H16sQ")
_VERSION_END = 18
_READABLE = (1, 2)
_BYTE = 8
_WEIGHT_SLOTS = ("Filter", "W", "Y")
_KERNEL = "__@kernel_type_attr@__"
_DTYPES = {
    0: "bool", 1: "int16", 2: "int32", 3: "int64", 4: "float16", 5: "float32", 6: "float64", 20: "uint8", 21: "int8",
}  # fmt: skip
"""By number in `VarType_.Type` of the schema."""


@dataclass(frozen=True)
class Kernel:
    """The implementation that one operator runs with, e.g. `conv2d`, `int8_out`, `arm`, `int8`, `NCHW`.

    `weight` is the name of its weight, or what stands in that place; empty for an operator without. `scales` are the
    scales of its inputs and outputs by Lite's own names for them (`Input0_scale`, `Filter0_scale`: per channel),
    float32. `weight_bits` is 8 or 16 where the weight is stored as integers and computed in float, which is Lite's
    dynamic quantization; else 0.
    """

    operator: str
    alias: str
    target: str
    precision: str
    layout: str
    weight: str
    scales: tuple[tuple[str, tuple[float, ...]], ...]
    weight_bits: int


@dataclass(frozen=True)
class NbFile:
    """A read `.nb` file: the version of its format, that of the `opt` that made it, and its kernels in order.

    `inputs` are by name, in the order in which they are fed: shape (None for an open dimension) and dtype. `outputs`
    are the dtypes.
    """

    meta_version: int
    opt_version: str
    kernels: tuple[Kernel, ...]
    inputs: Mapping[str, tuple[tuple[int | None, ...], np.dtype[Any]]]
    outputs: Mapping[str, np.dtype[Any]]

    @property
    def targets(self) -> tuple[str, ...]:
        """The kinds of hardware that its kernels need, sorted."""
        return tuple(sorted({kernel.target for kernel in self.kernels} - _NEUTRAL))

    def require_target(self, target: str, source: str) -> None:
        """Raises QuantfleetError(MODEL_UNSUPPORTED) where another target than this (`arm`, `x86`) is needed: Lite would
        not notice, and compute garbage. `source` is what the error calls the file."""
        if foreign := [name for name in self.targets if name != target]:
            raise QuantfleetError(
                ErrorCode.MODEL_UNSUPPORTED,
                f"{source} is made for {', '.join(foreign)}, and this device is {target}",
                f"convert the model with opt and valid_places={target}",
            )

    def require_int8(self, source: str) -> None:
        """Raises QuantfleetError(MODEL_UNSUPPORTED) where no layer has a kernel in INT8, nor a weight of 8 bits."""
        layers = [kernel for kernel in self.kernels if kernel.operator in WEIGHTED]
        if not any(layer.precision == "int8" or layer.weight_bits == _BYTE for layer in layers):
            raise QuantfleetError(
                ErrorCode.MODEL_UNSUPPORTED,
                f"{source} is not quantized: none of its {len(layers)} layers is in INT8",
                "give the Paddle model that it was made of: opt converts it, in fp32 and int16 too",
            )

    def counts(self, *, quantized: bool) -> NodeCounts:
        """How much of it runs in INT8. `quantized`: it is meant to, so that what is in float is a fallback."""
        weighted = [kernel for kernel in self.kernels if kernel.operator in WEIGHTED]
        integer = [kernel for kernel in weighted if kernel.precision == "int8"]
        fallbacks = [
            f"{kernel.weight} ({kernel.operator}): {_why(kernel)}" for kernel in weighted if kernel not in integer
        ]
        return NodeCounts(
            int8=len(integer),
            quantizable=len(weighted),
            fallbacks=tuple(fallbacks) if quantized else (),
            ran=tuple(f"{kernel.weight} ({kernel.operator})" for kernel in integer),
        )


def read_nb(data: bytes, source: str) -> NbFile:
    """Read an `.nb` file's bytes; errors call it `source`.

    Raises QuantfleetError: MODEL_UNREADABLE for bytes that are no such file, MODEL_UNSUPPORTED for format 0, which
    Lite before 2.7 wrote.
    """
    try:
        meta_version, version, size = _HEAD.unpack_from(data)
    except struct.error as error:
        raise _unreadable(source, "it is shorter than its own head") from error
    opt_version = version.partition(b"\0")[0].decode(errors="replace")
    if meta_version == 0 and opt_version.startswith("v"):
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"{source} is of the format that Paddle Lite wrote before 2.7 (opt {opt_version})",
            "convert the model anew with a later opt",
        )
    if meta_version not in _READABLE:
        raise _unreadable(source, f"its format is number {meta_version}, and known are 1 and 2")
    topology = data[_HEAD.size : _HEAD.size + size]
    if len(topology) < size:
        raise _unreadable(source, f"it ends {size - len(topology)} bytes before its graph does")
    try:
        blocks = Table.root(topology).tables(0)
        kernels = tuple(_kernels(blocks))
        if not kernels:
            raise _unreadable(source, "its graph has no kernel")
        variables = {variable.text(0): variable for variable in blocks[0].tables(2)}
        fed, fetched = _ends(blocks[0], "feed", 2), _ends(blocks[0], "fetch", 1)
        inputs = {name: (_shape(variables[name]), _dtype(variables[name])) for name in fed}
        outputs = {name: _dtype(variables[name]) for name in fetched}
    except (struct.error, ValueError, LookupError) as error:
        raise _unreadable(source, f"its graph is damaged: {error}") from error
    return NbFile(meta_version, opt_version, kernels, inputs, outputs)


def read_given(data: bytes, source: str, target: str) -> NbFile:
    """Read the file of a user, to be run quantized on this target.

    Raises QuantfleetError as `read_nb`, `require_target` and `require_int8` do.
    """
    nb = read_nb(data, source)
    nb.require_target(target, source)
    nb.require_int8(source)
    return nb


def without_junk(data: bytes) -> bytes:
    """The same file with zeros behind the version's end, where opt leaves whatever was in its memory."""
    head, version, rest = data[:2], data[2:_VERSION_END].partition(b"\0")[0], data[_VERSION_END:]
    return head + version.ljust(_VERSION_END - 2, b"\0") + rest


def _kernels(blocks: list[Table]) -> Iterator[Kernel]:
    """Of ProgramDesc: 0 blocks; of BlockDesc: 2 vars, 3 ops; of OpDesc: 0 type, 1 inputs, 2 outputs, 3 attrs; of Attr:
    0 name, 2 i, 4 s, 6 floats; of Var: 0 parameter, 1 arguments."""
    for block in blocks:
        for operator in block.tables(3):
            attributes = {attribute.text(0): attribute for attribute in operator.tables(3)}
            if _KERNEL not in attributes:
                continue
            _, alias, target, precision, layout = attributes[_KERNEL].text(4).split("/")
            inputs = {slot.text(0): slot.texts(1) for slot in operator.tables(1)}
            yield Kernel(
                operator.text(0),
                alias,
                _name(_TARGETS, target),
                _name(_PRECISIONS, precision),
                _name(_LAYOUTS, layout),
                next((inputs[slot][0] for slot in _WEIGHT_SLOTS if inputs.get(slot)), ""),
                tuple(
                    (name, item.floats(6))
                    for name, item in attributes.items()
                    if name.endswith("_scale") and item.floats(6)
                ),
                attributes["quantize_weight_bits"].integer(2) if "quantize_weight_bits" in attributes else 0,
            )


def _ends(block: Table, kind: str, slots: int) -> list[str]:
    """What the feed operators give, or the fetch operators take: the names in the order of `col`."""
    found = {}
    for operator in block.tables(3):
        if operator.text(0) == kind:
            (column,) = (item.integer(2) for item in operator.tables(3) if item.text(0) == "col")
            found[column] = operator.tables(slots)[0].texts(1)[0]
    return [found[column] for column in sorted(found)]


def _tensor(variable: Table) -> Table:
    """Of VarDesc: 1 type; of VarType: 2 lod_tensor; of LoDTensorDesc: 0 tensor."""
    return variable.table(1).table(2).table(0)


def _shape(variable: Table) -> tuple[int | None, ...]:
    """Of TensorDesc: 1 dims."""
    return tuple(extent if extent > 0 else None for extent in _tensor(variable).longs(1))


def _dtype(variable: Table) -> np.dtype[Any]:
    """Of TensorDesc: 0 data_type."""
    return np.dtype(_DTYPES[_tensor(variable).integer(0)])


def _name(names: tuple[str, ...], number: str) -> str:
    index = int(number)
    return names[index] if 0 <= index < len(names) else f"number {index}"


def _why(kernel: Kernel) -> str:
    if kernel.weight_bits:
        return f"its weight is stored in {kernel.weight_bits} bits, and Lite computes in float"
    return f"opt gave it a kernel in {kernel.precision}"


def _unreadable(source: str, why: str) -> QuantfleetError:
    return QuantfleetError(
        ErrorCode.MODEL_UNREADABLE, f"{source} is no Paddle Lite model: {why}", "give an .nb file that opt has written"
    )
