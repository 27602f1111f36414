"""Streams, timing events and buffers of the current CUDA device. Not for what is computed on them."""

import ctypes
import weakref
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .calls import call, runtime

_NS_PER_MS = 1_000_000


class Stream:
    """An order of work on the device; `handle` is its `cudaStream_t` as a number, as engines take it.

    With `handle` it is a stream that someone else made, and will end.
    """

    def __init__(self, handle: int | None = None) -> None:
        if handle is None:
            self._stream = call("cudaStreamCreate")
            _release(self, "cudaStreamDestroy", self._stream)
        else:
            self._stream = runtime().cudaStream_t(handle)
        self.handle = int(self._stream)

    def synchronize(self) -> None:
        """Wait until everything that was put on the stream is done; errors of that work are raised here."""
        call("cudaStreamSynchronize", self._stream)

    def record(self, event: "Event") -> None:
        """Have `event` note the time when the stream comes to it."""
        call("cudaEventRecord", event.event, self._stream)

    def to_device(self, source: int, target: "DeviceMemory", nbytes: int) -> None:
        """Put a copy from host memory at address `source` on the stream. Truly asynchronous from pinned memory only."""
        kind = runtime().cudaMemcpyKind.cudaMemcpyHostToDevice
        call("cudaMemcpyAsync", target.address, source, nbytes, kind, self._stream)

    def to_host(self, source: int, target: int, nbytes: int) -> None:
        """Put a copy from the device address `source` to host memory at address `target` on the stream."""
        kind = runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
        call("cudaMemcpyAsync", target, source, nbytes, kind, self._stream)


class Event:
    """A moment on a stream, by the device's clock."""

    def __init__(self) -> None:
        self.event = call("cudaEventCreate")
        _release(self, "cudaEventDestroy", self.event)

    def nanoseconds_until(self, later: "Event") -> int:
        """Nanoseconds from this event to `later`, both past; the device's clock has a resolution of about 0.5 µs
        (CUDA runtime API, cudaEventElapsedTime)."""
        milliseconds: float = call("cudaEventElapsedTime", self.event, later.event)
        return round(milliseconds * _NS_PER_MS)


class DeviceMemory(Protocol):
    """Memory on the device, whoever owns it; `address` is its device pointer."""

    @property
    def address(self) -> int:
        """Where it begins."""
        ...

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        ...


class DeviceBuffer:
    """Memory on the device, freed with this object; `address` is its device pointer."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.address = int(call("cudaMalloc", max(nbytes, 1)))
        _release(self, "cudaFree", self.address)


class HostBuffer:
    """Memory of the host as a numpy array: page-locked (`pinned`), which the device reads by itself, or ordinary."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], *, pinned: bool) -> None:
        self.array: NDArray[Any] = np.empty(shape, dtype)
        if pinned:
            nbytes = self.array.nbytes
            address = int(call("cudaHostAlloc", max(nbytes, 1), runtime().cudaHostAllocDefault))
            _release(self, "cudaFreeHost", address)
            held = (ctypes.c_uint8 * nbytes).from_address(address)
            self.array = np.ctypeslib.as_array(held).view(dtype).reshape(shape)

    @property
    def address(self) -> int:
        """Where the array begins."""
        return int(self.array.ctypes.data)


def is_pinned(address: int) -> bool:
    """Whether the CUDA runtime knows the host memory at `address` as page-locked."""
    attributes = call("cudaPointerGetAttributes", address)
    return bool(attributes.type == runtime().cudaMemoryType.cudaMemoryTypeHost)


def _release(owner: object, function: str, handle: Any) -> None:
    """Give `handle` back when `owner` is gone; not at the end of the process, when the driver is gone first."""
    weakref.finalize(owner, getattr(runtime(), function), handle).atexit = False
