"""A model loaded in TensorRT, ready to run. Not for how its engine is built or kept."""

# TensorRT is not installed where this is checked; tests/opt_in/gpu_types has its signatures.
# pyright: reportMissingImports=false

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError

from .. import feeds as session_feeds
from ..base import Array, NodeCounts
from ..cuda.device import settings as device_settings
from ..cuda.stream_session import StreamSession
from ..cuda.transfers import OnDevice, Transfers
from .layers import Layer, conversions, int8_nodes, precision_of, precisions, read_layers
from .library import Log
from .outputs import Outputs
from .workshop import Workshop

if TYPE_CHECKING:
    import tensorrt as trt

_PROFILED_RUNS = 5


class TensorRtSession(StreamSession):
    """One engine with one execution context, for inputs of one shape.

    It is built for the `shapes` given, or when its first batch is bound; when another shape is bound, it is built once
    more for that.
    """

    def __init__(self, workshop: Workshop, shapes: dict[str, tuple[int, ...]] | None) -> None:
        import tensorrt as trt

        super().__init__(Transfers(pinned=workshop.plan.pinned))
        self._workshop = workshop
        self._inputs = workshop.model.inputs
        self._log = Log(trt)
        self._runtime = trt.Runtime(self._log.logger)
        self._feeds: dict[str, Array] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        if shapes is not None:
            self._open(shapes)

    @property
    def inputs(self) -> Mapping[str, tuple[tuple[int | None, ...], np.dtype[Any]]]:
        """Shape (None for a dynamic dimension) and dtype of every input."""
        return self._inputs

    def bind(self, feeds: Mapping[str, Array]) -> None:
        """Keep `feeds` for `run_bound`, in page-locked memory if the precision is a pinned one."""
        session_feeds.check(self._inputs, feeds)
        shapes = {name: tuple(array.shape) for name, array in feeds.items()}
        if shapes != self._shapes:
            self._open(shapes)
        self._feeds = dict(feeds)
        for name, tensor in self.transfers.feed(feeds).items():
            self._context.set_tensor_address(name, tensor.address)

    def settings_in_effect(self) -> dict[str, str]:
        """Version and device, what the engine's layers compute in, the host's memory, and where the engine is from."""
        return {
            **device_settings(self._workshop.device),
            "tensorrt": self._workshop.version_text,
            "layers": precisions(self._layers()),
            "network": "strongly typed" if self._workshop.plan.strongly_typed else "weakly typed",
            "builder_flags": ",".join(self._workshop.plan.flags) or "none",
            "tf32": "off",
            "host_memory": self.transfers.host_memory(),
            "engine": self._workshop.last,
        }

    def node_counts(self) -> NodeCounts:
        """What the engine's inspector says of its layers, with the times of a few profiled runs.

        It runs the bound batch, or zeros where nothing is bound.
        """
        from ..onnx_products import Product, named, read_products

        layers = self._layers()
        with tempfile.TemporaryDirectory(prefix="quantfleet-tensorrt-") as folder:
            products = read_products(named(self._workshop.model.network, Path(folder)))

        def limit(product: Product) -> str:
            chosen = precision_of(layers, product.name)
            where = f"a kernel in {chosen}" if chosen else "no layer of that name, so its precision is unknown,"
            return f"TensorRT chose {where} for it ({product.form})"

        return products.counts(int8_nodes(layers), limit, conversions(layers, self._layer_times()))

    def _open(self, shapes: dict[str, tuple[int, ...]]) -> None:
        serialized = self._workshop.engine(shapes)
        engine = self._runtime.deserialize_cuda_engine(serialized)
        if engine is None:
            # What was kept may be whole and still not fit, after an update of the system's libraries.
            serialized = self._workshop.engine(shapes, anew=f"the kept engine does not load: {self._log.errors()}")
            engine = self._runtime.deserialize_cuda_engine(serialized)
        if engine is None:
            raise self._failed("does not load the engine that it built")
        context = engine.create_execution_context()
        if context is None:
            raise self._failed("cannot make an execution context, perhaps for want of device memory")
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise self._failed(f"refuses the shape {list(shape)} of input {name}")
        names = map(engine.get_tensor_name, range(engine.num_io_tensors))
        output_names = tuple(name for name in names if engine.get_tensor_mode(name).name == "OUTPUT")
        self._engine: trt.ICudaEngine = engine
        self._context: trt.IExecutionContext = context
        self._outputs = Outputs(engine, context, output_names)
        self._shapes = dict(shapes)

    def compute(self) -> dict[str, OnDevice]:
        """Have the execution context put its work on the stream."""
        if not self._context.execute_async_v3(self.transfers.stream.handle):
            raise self._failed("did not run")
        return self._outputs.tensors()

    def _layers(self) -> tuple[Layer, ...]:
        import tensorrt as trt

        if not self._shapes:
            return ()
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context
        return read_layers(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

    def _layer_times(self) -> dict[str, float]:
        """Milliseconds by layer, over a few runs."""
        if not self._feeds:
            zeros = session_feeds.zeros(self._inputs)
            self.bind({name: np.zeros(self._shapes.get(name, item.shape), item.dtype) for name, item in zeros.items()})
        times: dict[str, float] = {}
        previous = self._context.profiler
        self._context.profiler = _profiler(times)
        for _ in range(_PROFILED_RUNS):
            self.run_bound()
        self._context.profiler = previous
        return times

    def _failed(self, what: str) -> QuantfleetError:
        name = self._workshop.model.network.name
        return QuantfleetError(ErrorCode.ENGINE_FAILED, f"TensorRT {what} ({name}): {self._log.errors()}")


def _profiler(times: dict[str, float]) -> "trt.IProfiler":
    import tensorrt as trt

    class Profiler(trt.IProfiler):  # type: ignore[misc] # its base has no type where TensorRT is not installed
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: SupportsFloat) -> None:
            times[layer_name] = times.get(layer_name, 0.0) + float(ms)

    return Profiler()
