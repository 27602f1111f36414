"""Which NVIDIA GPUs this host has, and which of its cores are nearest to each. Not who may use them when.

A GPU that is partitioned (MIG) is not a device: each of its instances is, under a UUID of its own.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from quantfleet_domain.hardware.facts import GpuFacts

from .nvml import opened, told

_WORD = 64


@dataclass(frozen=True)
class Gpu:
    """A GPU, and the logical `cores` of this host that feed it."""

    facts: GpuFacts
    cores: tuple[int, ...]


@dataclass(frozen=True)
class Gpus:
    """The GPUs in the driver's order. `warnings` say what is wrong with a driver, or a GPU, that is there."""

    gpus: tuple[Gpu, ...] = ()
    warnings: tuple[str, ...] = ()


def find_gpus(usable: Collection[int]) -> Gpus:
    """Ask the NVIDIA driver. Without one there are no GPUs and no warnings. `usable` are the cores that the worker may
    use: a GPU's are those of them that are near it, or all where none is."""
    nvml = opened()
    if nvml.module is None:
        return Gpus((), (nvml.problem,) if nvml.problem else ())
    module = nvml.module
    found: list[Gpu] = []
    warnings: list[str] = []
    for index in range(told(module, module.nvmlDeviceGetCount) or 0):
        try:
            board = module.nvmlDeviceGetHandleByIndex(index)
            found += [_gpu(module, board, part, usable) for part in _parts(module, board)]
        except module.NVMLError as error:
            warnings.append(f"GPU {index} does not answer: {error}")
    return Gpus(tuple(found), tuple(warnings))


def cores_of(mask: Iterable[int], usable: Collection[int]) -> tuple[int, ...]:
    """The cores whose bits are set in `mask`, 64 to a word, lowest first, of those that are `usable`; all of these
    where none is set (NVML, nvmlDeviceGetCpuAffinity)."""
    near = {
        word * _WORD + bit for word, value in enumerate(mask) for bit in range(_WORD) if value >> bit & 1
    } & set(usable)  # fmt: skip
    return tuple(sorted(near or usable))


def cuda_version(number: int) -> str:
    """`12.4` of 12040 (NVML, nvmlSystemGetCudaDriverVersion)."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _parts(module: ModuleType, board: Any) -> Sequence[Any]:
    """The board's MIG instances where it is partitioned, else the board."""
    mode = told(module, module.nvmlDeviceGetMigMode, board)
    if mode is None or mode[0] != module.NVML_DEVICE_MIG_ENABLE:
        return [board]
    places = range(told(module, module.nvmlDeviceGetMaxMigDeviceCount, board) or 0)
    instances = (told(module, module.nvmlDeviceGetMigDeviceHandleByIndex, board, place) for place in places)
    return [instance for instance in instances if instance is not None]


def _gpu(module: ModuleType, board: Any, part: Any, usable: Collection[int]) -> Gpu:
    major, minor = module.nvmlDeviceGetCudaComputeCapability(board)
    words = -(-(max(usable, default=0) + 1) // _WORD)
    mask = told(module, module.nvmlDeviceGetCpuAffinity, board, words)
    return Gpu(
        facts=GpuFacts(
            name=module.nvmlDeviceGetName(part),
            uuid=module.nvmlDeviceGetUUID(part),
            compute_capability=f"{major}.{minor}",
            memory_bytes=int(module.nvmlDeviceGetMemoryInfo(part).total),
            driver=module.nvmlSystemGetDriverVersion(),
            cuda=cuda_version(module.nvmlSystemGetCudaDriverVersion_v2()),
            max_sm_mhz=told(module, module.nvmlDeviceGetMaxClockInfo, board, module.NVML_CLOCK_SM),
        ),
        cores=cores_of(mask or (), usable),
    )
