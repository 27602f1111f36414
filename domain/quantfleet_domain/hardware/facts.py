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
    "sme",
    "sme2",
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
class GpuFacts:
    """A GPU as its driver describes it.

    `compute_capability` is NVIDIA's, e.g. `7.5`; `cuda` is the newest CUDA version that the `driver` supports.
    `max_sm_mhz` is the highest clock of its multiprocessors, None where the driver does not say.
    """

    name: str
    uuid: str
    compute_capability: str
    memory_bytes: int
    driver: str
    cuda: str
    max_sm_mhz: int | None

    @property
    def isa(self) -> tuple[str, ...]:
        """Its architecture as compilers call it: `sm_75` for compute capability 7.5."""
        return (f"sm_{self.compute_capability.replace('.', '')}",)


@dataclass(frozen=True)
class PhoneFacts:
    """A phone or board that hangs on a host and is reached by `transport` (`adb`, `ssh`, `local`) at `address`.

    `soc` is its system on a chip and `system` its operating system, as it names them itself; `abis` are the binary
    interfaces that it runs, by Android's names, e.g. `arm64-v8a` and `armeabi-v7a`.
    """

    transport: str
    address: str
    soc: str
    system: str
    abis: tuple[str, ...]


@dataclass(frozen=True)
class Proof:
    """What `worker doctor` found when it tried an engine in one precision: `passed`, and its `finding` in words."""

    precision: str
    passed: bool
    finding: str


@dataclass(frozen=True)
class EngineFacts:
    """An engine on a device: its version and precisions where `available`, and what is `missing` where it is not.

    `proofs` are what `worker doctor` found of this very version there; empty where it was not run.
    """

    name: str
    version: str
    precisions: tuple[str, ...]
    available: bool
    missing: str
    proofs: tuple[Proof, ...] = ()


@dataclass(frozen=True)
class Package:
    """A piece of software on the node that can change a figure, and its version."""

    name: str
    version: str


@dataclass(frozen=True)
class DeviceFacts:
    """A pinned unit on a node.

    `device` is its name on the node (`cpu:0`, `cuda:0`, `arm:SERIAL`), `kind` is `cpu`, `cuda` or `arm`. `hardware` is
    the processor: the host's, also of a GPU, and a phone's own. `cores` are all the logical cores that a benchmark may
    be pinned to: of a GPU those that feed it, of a phone its own; `slots` is this node's own share of them for tasks
    that run side by side. `feeding` are the cores of the host on which a phone's proxy runs.
    `measurement_domain` names what must be idle for a latency to mean anything: the boot id of the machine for a CPU,
    that and the GPU's own name below it, or the phone. `numerics_isa` is the part of a numerics class that the
    processor decides. `verified` is False for a mere claim. `software` is what the node's figures depend on besides the
    engines. `allowed_code` are the Python packages that the node's owner lets jobs run.
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
    gpu: GpuFacts | None = None
    phone: PhoneFacts | None = None
    feeding: tuple[int, ...] = ()

    @property
    def isa(self) -> tuple[str, ...]:
        """What decides which kernels an engine has here: the GPU's architecture, else the processor's flags."""
        return self.gpu.isa if self.gpu else self.hardware.isa

    @property
    def model_name(self) -> str:
        """What people call the device: by its GPU, its system on a chip, or its processor."""
        return self.gpu.name if self.gpu else (self.phone and self.phone.soc) or self.hardware.model_name


_FLOAT_KERNELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("avx512_core", ("avx512f", "avx512bw", "avx512dq", "avx512vl")),
    ("avx512f", ("avx512f",)),
    ("avx2", ("avx2", "fma")),
    ("avx", ("avx",)),
    ("sme2+sve", ("sme2", "sve")),
    ("sme2", ("sme2",)),
    ("sme+sve", ("sme", "sve")),
    ("sme", ("sme",)),
    ("sve", ("sve",)),
    ("asimd", ("asimd",)),
)


def numerics_isa(architecture: str, isa: tuple[str, ...], sve_bits: int = 0) -> str:
    """The family of float kernels that a CPU engine picks, e.g. `x86_64/avx512_core` or `aarch64/sve256`.

    `architecture` is the kernel's name for it, `isa` flags as in `CpuFacts`, `sve_bits` the length of SVE vectors. Two
    processors of one family give the same FP32 bits for the same engine and options; the steps are those of ONNX
    Runtime's MLAS dispatch (onnxruntime/core/mlas/lib/platform.cpp): AVX, AVX2 with FMA3, AVX512F, AVX512 core; on ARM
    KleidiAI's matrix products, which are others for SME2 than for SME, and functions in SVE, whose sums depend on the
    vectors' length.
    """
    for family, needed in _FLOAT_KERNELS:
        if set(needed) <= set(isa):
            length = str(sve_bits) if sve_bits and "sve" in needed else ""
            return f"{architecture}/{family}{length}"
    return f"{architecture}/baseline"
