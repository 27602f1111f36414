"""What a probe found out about a device and its engines, as plain values. Not how it is found: that is the worker's.

Fields are str, int, float, bool, tuples, optionals and further frozen dataclasses only, so that messages mirror them.
"""

from dataclasses import dataclass

ISA_FLAGS: tuple[str, ...] = (
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "avx",
    "avx2",
    "avx512_bf16",
    "avx512_vnni",
    "avx512bw",
    "avx512dq",
    "avx512f",
    "avx512vl",
    "avx_vnni",
    "bf16",
    "f16c",
    "fma",
    "fphp",
    "i8mm",
    "sse4_2",
    "sve",
    "sve2",
)
"""The flags of /proc/cpuinfo that decide which kernels an inference engine picks, sorted."""


@dataclass(frozen=True)
class VnniSelfTest:
    """What INT8 is worth on this core, timed in the real engine on one thread.

    `int8_ns` and `fp32_ns` are the medians of one matrix product of the same shape, in nanoseconds; `ratio` is
    fp32_ns / int8_ns; `verdict` is `int8-fast` or `int8-slow`.
    """

    int8_ns: float
    fp32_ns: float
    ratio: float
    verdict: str


@dataclass(frozen=True)
class CpuFacts:
    """A host's processor and memory, as far as this process may use them.

    `isa` is sorted and holds members of `ISA_FLAGS` only. `sockets`, `physical_cores` and `logical_cores` are the
    host's; `memory_bytes` is what a control group leaves of it. `max_khz`, `governor` and `vnni` are None where the
    host does not say or the test could not run; `vnni_missing` then holds the reason for the latter.
    """

    model_name: str
    vendor: str
    architecture: str
    isa: tuple[str, ...]
    sockets: int
    physical_cores: int
    logical_cores: int
    memory_bytes: int
    max_khz: int | None
    governor: str | None
    vnni: VnniSelfTest | None
    vnni_missing: str


@dataclass(frozen=True)
class EngineFacts:
    """An engine on a device: its version and precisions where `available`, and what is `missing` where it is not."""

    name: str
    version: str
    precisions: tuple[str, ...]
    available: bool
    missing: str


@dataclass(frozen=True)
class Package:
    """A piece of software on the node that can change a figure, and its version."""

    name: str
    version: str


@dataclass(frozen=True)
class DeviceFacts:
    """A pinned unit on a node.

    `device` is its name on the node (`cpu:0`), `kind` is `cpu`, `cuda` or `arm`. `cores` are all the logical cores that
    a benchmark may be pinned to; `slots` is this node's own share of them for tasks that run side by side.
    `measurement_domain` names what must be idle for a latency to mean anything: the boot id of the machine for a CPU.
    `numerics_isa` is the part of a numerics class that the processor decides. `verified` is False for a mere claim.
    `software` is what the node's figures depend on besides the engines. `allowed_code` are the Python packages that the
    node's owner lets jobs run.
    """

    device: str
    kind: str
    hardware: CpuFacts
    engines: tuple[EngineFacts, ...]
    cores: tuple[int, ...]
    slots: tuple[int, ...]
    measurement_domain: str
    numerics_isa: str
    verified: bool
    software: tuple[Package, ...] = ()
    allowed_code: tuple[str, ...] = ()


_FLOAT_KERNELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("avx512_core", ("avx512f", "avx512bw", "avx512dq", "avx512vl")),
    ("avx512f", ("avx512f",)),
    ("avx2", ("avx2", "fma")),
    ("avx", ("avx",)),
    ("sve", ("sve",)),
    ("asimd", ("asimd",)),
)


def numerics_isa(architecture: str, isa: tuple[str, ...]) -> str:
    """The family of float kernels that a CPU engine picks, e.g. `x86_64/avx512_core` or `aarch64/asimd`.

    `architecture` is the kernel's name for it, `isa` flags as in `CpuFacts`. Two processors of one family give the same
    FP32 bits for the same engine and options; the steps are those of ONNX Runtime's MLAS dispatch
    (onnxruntime/core/mlas/lib/platform.cpp): AVX, AVX2 with FMA3, AVX512F, AVX512 core.
    """
    for family, needed in _FLOAT_KERNELS:
        if set(needed) <= set(isa):
            return f"{architecture}/{family}"
    return f"{architecture}/baseline"
