"""What a Paddle Lite model file (`.nb`) says of itself: its kernels. Not for running it, nor for making one.

Sources, of Paddle-Lite 2.13: the file's layout above `LoadModelNaiveFromFile` in lite/model_parser/model_parser.cc, the
schema lite/model_parser/flatbuffers/framework.fbs, a kernel's text in `SerializeKernelType` of lite/core/kernel.cc, and
the numbers in it in lite/api/paddle_place.h. The file does not name the ABI: one for ARM serves armv7 and armv8.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.base import NodeCounts
from quantfleet_worker.phones.flatbuffer import Table

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
_WEIGHT_SLOTS = ("Filter", "W", "Y")
_KERNEL = "__@kernel_type_attr@__"


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
    """A read `.nb` file: the version of its format, that of the `opt` that made it, and its kernels in order."""

    meta_version: int
    opt_version: str
    kernels: tuple[Kernel, ...]

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
    except (struct.error, ValueError) as error:
        raise _unreadable(source, f"its graph is damaged: {error}") from error
    if not kernels:
        raise _unreadable(source, "its graph has no kernel")
    return NbFile(meta_version, opt_version, kernels)


def without_junk(data: bytes) -> bytes:
    """The same file with zeros behind the version's end, where opt leaves whatever was in its memory."""
    head, version, rest = data[:2], data[2:_VERSION_END].partition(b"\0")[0], data[_VERSION_END:]
    return head + version.ljust(_VERSION_END - 2, b"\0") + rest


def _kernels(blocks: list[Table]) -> Iterator[Kernel]:
    """Of ProgramDesc: 0 blocks; of BlockDesc: 3 ops; of OpDesc: 0 type, 1 inputs, 3 attrs; of Attr: 0 name, 2 i, 4 s,
    6 floats; of Var: 0 parameter, 1 arguments."""
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
