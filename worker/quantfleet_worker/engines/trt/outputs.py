"""Where an engine's outputs go. Not for bringing them back to the host."""

# TensorRT is not installed where this is checked; tests/opt_in/gpu_types has its signatures.
# pyright: reportMissingImports=false

from typing import TYPE_CHECKING, Any

import numpy as np

from ..cuda.memory import DeviceBuffer
from ..cuda.transfers import OnDevice
from .library import extents
from .model import numpy_dtype

if TYPE_CHECKING:
    import tensorrt as trt


class Outputs:
    """Device memory for the outputs of one execution context whose input shapes are set.

    An output whose shape depends on the data gets memory while the engine runs, through an IOutputAllocator.
    """

    def __init__(self, engine: "trt.ICudaEngine", context: "trt.IExecutionContext", names: tuple[str, ...]) -> None:
        self._fixed: dict[str, OnDevice] = {}
        self._buffers: dict[str, DeviceBuffer] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._dtypes = {name: numpy_dtype(engine.get_tensor_dtype(name).name) for name in names}
        self._allocators: list[object] = []
        self._names = names
        for name in names:
            shape = extents(context.get_tensor_shape(name))
            if min(shape, default=0) >= 0:
                self._fix(context, name, shape)
            else:
                allocator = _allocator(self, name)
                self._allocators.append(allocator)
                context.set_output_allocator(name, allocator)

    def tensors(self) -> dict[str, OnDevice]:
        """Where the outputs of the last run lie, in the model's order."""
        grown = {
            name: OnDevice(self._buffers[name].address, shape, self._dtypes[name])
            for name, shape in self._shapes.items()
        }
        return {name: (self._fixed | grown)[name] for name in self._names}

    def grow(self, name: str, nbytes: int) -> int:
        """The address of at least `nbytes` for an output."""
        if name not in self._buffers or self._buffers[name].nbytes < nbytes:
            self._buffers[name] = DeviceBuffer(nbytes)
        return self._buffers[name].address

    def settle(self, name: str, shape: tuple[int, ...]) -> None:
        """Note the shape that an output took in this run."""
        self._shapes[name] = shape

    def _fix(self, context: "trt.IExecutionContext", name: str, shape: tuple[int, ...]) -> None:
        dtype: np.dtype[Any] = self._dtypes[name]
        buffer = self._buffers[name] = DeviceBuffer(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        self._fixed[name] = OnDevice(buffer.address, shape, dtype)
        context.set_tensor_address(name, buffer.address)


def _allocator(outputs: Outputs, name: str) -> "trt.IOutputAllocator":
    import tensorrt as trt

    class Allocator(trt.IOutputAllocator):  # type: ignore[misc] # its base has no type where TensorRT is not installed
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)

        def reallocate_output_async(self, _name: str, _memory: int, size: int, _alignment: int, _stream: int) -> int:
            return outputs.grow(name, size)

        def notify_shape(self, _name: str, shape: "trt.Dims") -> None:
            outputs.settle(name, extents(shape))

    return Allocator()
