"""The GPU that this process computes on, as the CUDA runtime names it. Not for finding GPUs: see `probes.gpu`."""

import uuid
from dataclasses import dataclass

from quantfleet_worker.probes.gpu_conditions import clocks_mhz

from .calls import call
from .capability import Capability


@dataclass(frozen=True)
class CudaDevice:
    """A GPU's name (`Tesla T4`), compute capability, and `uuid` as NVML writes it (`GPU-…`)."""

    name: str
    capability: Capability
    uuid: str

    @property
    def capability_text(self) -> str:
        """The compute capability as NVIDIA writes it, e.g. `7.5`."""
        return f"{self.capability[0]}.{self.capability[1]}"

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability_text})"


def settings(device: CudaDevice) -> dict[str, str]:
    """The device and its clocks as they are now, for a session's settings in effect."""
    clocks = {f"{name}_clock_mhz": str(value) for name, value in clocks_mhz(device.uuid).items()}
    return {"gpu": str(device)} | clocks


def current() -> CudaDevice:
    """The current device. Raises QuantfleetError(ENGINE_FAILED) where there is no GPU or the driver is too old, and
    ENGINE_MISSING without cuda-python."""
    properties = call("cudaGetDeviceProperties", call("cudaGetDevice"))
    return CudaDevice(
        name=properties.name.split(b"\0")[0].decode(),
        capability=(int(properties.major), int(properties.minor)),
        uuid=f"GPU-{uuid.UUID(bytes=bytes(properties.uuid.bytes))}",
    )
