"""A batch's way to the device and back on one stream, each part between two events. Not for what computes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base import Array
from .memory import DeviceBuffer, DeviceMemory, Event, HostBuffer, Stream, is_pinned


@dataclass(frozen=True)
class OnDevice:
    """A tensor in device memory."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class Transfers:
    """Host and device buffers of one session, its stream, and the times of the last run's parts.

    With `pinned`, what is bound is copied into page-locked buffers, from which and into which the device copies by
    itself; else the device's driver copies from the arrays as they were bound, and into ordinary memory. An engine that
    has a stream of its own gives it, and one that owns the memory of its inputs gives `allocate`: the name of an input
    and an array to the memory for such arrays.
    """

    def __init__(
        self,
        *,
        pinned: bool,
        stream: Stream | None = None,
        allocate: Callable[[str, Array], DeviceMemory] | None = None,
    ) -> None:
        self.stream = stream or Stream()
        self._allocate = allocate or (lambda _, array: DeviceBuffer(array.nbytes))
        self._pinned = pinned
        self._events = tuple(Event() for _ in range(4))
        self._sources: dict[str, Array] = {}
        self._staged: dict[str, HostBuffer] = {}
        self._inputs: dict[str, DeviceMemory] = {}
        self._fed: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        self._received: dict[str, HostBuffer] = {}
        self._ran = False

    def feed(self, feeds: Mapping[str, Array]) -> Mapping[str, OnDevice]:
        """Take the arrays of a batch, C-contiguous, and say where on the device they will lie. Addresses change only
        where a shape or a dtype does."""
        for name, array in feeds.items():
            if self._fed.get(name) != (array.shape, array.dtype):
                self._inputs[name] = self._allocate(name, array)
                self._fed[name] = (array.shape, array.dtype)
            if self._pinned:
                staged = self._staged.get(name)
                if staged is None or staged.array.shape != array.shape or staged.array.dtype != array.dtype:
                    staged = self._staged[name] = HostBuffer(array.shape, array.dtype, pinned=True)
                np.copyto(staged.array, array)
                self._sources[name] = staged.array
            else:
                self._sources[name] = array
        return {name: OnDevice(self._inputs[name].address, item.shape, item.dtype) for name, item in feeds.items()}

    def run(self, compute: Callable[[], Mapping[str, OnDevice]]) -> None:
        """Copy the inputs in, have `compute` put its work on the stream, copy what it says out, and wait."""
        start, fed, computed, received = self._events
        self.stream.record(start)
        for name, array in self._sources.items():
            self.stream.to_device(int(array.ctypes.data), self._inputs[name], array.nbytes)
        self.stream.record(fed)
        outputs = compute()
        self.stream.record(computed)
        for name, tensor in outputs.items():
            self.stream.to_host(tensor.address, self._receiver(name, tensor).address, tensor.nbytes)
        self.stream.record(received)
        self.stream.synchronize()
        self._ran = True

    def parts_ns(self) -> dict[str, int]:
        """Nanoseconds of the last run's `h2d`, `compute` and `d2h`, by the device's clock; empty before the first."""
        if not self._ran:
            return {}
        names = ("h2d", "compute", "d2h")
        pairs = zip(names, self._events, self._events[1:], strict=False)
        return {name: before.nanoseconds_until(after) for name, before, after in pairs}

    def outputs(self) -> dict[str, Array]:
        """Copies of what the last run brought back, by name."""
        return {name: np.array(buffer.array) for name, buffer in self._received.items()}

    def host_memory(self) -> str:
        """What the CUDA runtime takes the host's buffers for: `page-locked`, `pageable` or, before a run, `none`."""
        addresses = [int(array.ctypes.data) for array in self._sources.values()]
        addresses += [buffer.address for buffer in self._received.values()]
        if not addresses:
            return "none"
        return "page-locked" if all(is_pinned(address) for address in addresses) else "pageable"

    def _receiver(self, name: str, tensor: OnDevice) -> HostBuffer:
        buffer = self._received.get(name)
        if buffer is None or buffer.array.shape != tensor.shape or buffer.array.dtype != tensor.dtype:
            buffer = self._received[name] = HostBuffer(tensor.shape, tensor.dtype, pinned=self._pinned)
        return buffer
