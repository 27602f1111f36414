"""Sessions of ONNX Runtime on an NVIDIA GPU, and what its distribution for GPUs lacks. Not which provider, nor how set.

Inputs and outputs are bound where they lie on the device; copies, kernels and events are on one stream, which the
provider is given (option `user_compute_stream`), and a run does not wait for the device by itself (run configuration
`disable_synchronize_execution_providers`).
"""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker import onnxruntime_library

from . import feeds as session_feeds
from . import onnxruntime_session as ort_session
from .base import Array, NodeCounts
from .cuda import device
from .cuda.memory import DeviceBuffer
from .cuda.stream_session import StreamSession
from .cuda.transfers import OnDevice, Transfers

INSTALL = "pip uninstall onnxruntime; pip install quantfleet[gpu]"
_DEVICE, _DEVICE_ID = "cuda", 0
"""The first GPU that this process sees: a child sees its own only."""
_CPU = "CPUExecutionProvider"
_RECORD = "session.record_ep_graph_assignment_info"
_UNSYNCHRONIZED = "disable_synchronize_execution_providers"


_PRODUCTS = frozenset({"Conv", "ConvTranspose", "FusedConv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Placed:
    """A node of a graph, and the provider that it was given to."""

    name: str
    operator: str
    provider: str


@dataclass(frozen=True)
class Provider:
    """An execution provider by ONNX Runtime's name, with its options as that takes them."""

    name: str
    options: Mapping[str, str]

    def on_stream(self, handle: int) -> tuple[str, dict[str, str]]:
        """As an InferenceSession takes it, to compute on this stream of the first GPU."""
        return self.name, dict(self.options) | {"device_id": str(_DEVICE_ID), "user_compute_stream": str(handle)}


def version() -> str:
    """The version of the installed onnxruntime-gpu. Raises QuantfleetError(ENGINE_MISSING), also where the files that
    are there are those of the distribution for CPUs."""
    found = onnxruntime_library.installed()
    if found is None:
        raise ort_session.missing("onnxruntime-gpu is not installed here", INSTALL)
    if found.distribution != onnxruntime_library.GPU:
        what = f"the onnxruntime that is installed here is {found.distribution}, which has no providers for GPUs"
        raise ort_session.missing(what, INSTALL)
    return found.version


def load() -> ModuleType:
    """The module, with the CUDA libraries that came by pip loaded, where they are there. Raises as `version`."""
    version()
    ort = ort_session.module(INSTALL)
    ort.preload_dlls()
    return ort


class OnnxRuntimeGpuSession(StreamSession):
    """The `model`, loaded from `file`, on the first of `providers`, with the others for what that does not take.
    `tensorrt` is the version of that library where it takes part.

    Raises QuantfleetError(ENGINE_FAILED) where the first provider is not in the session, or a product is left to the
    CPU: a fall-back is no measurement of a GPU.
    """

    def __init__(
        self,
        ort: ModuleType,
        model: Path,
        file: Path,
        providers: Sequence[Provider],
        threads: int,
        *,
        pinned: bool,
        tensorrt: str = "",
    ) -> None:
        self._device = device.current()
        super().__init__(Transfers(pinned=pinned))
        self._tensorrt = {"tensorrt": tensorrt} if tensorrt else {}
        self._model = ort_session.existing(model)
        options = ort_session.options_with(ort, threads, {_RECORD: "1"})
        on_stream = [provider.on_stream(self.transfers.stream.handle) for provider in providers]
        self._session = ort_session.opened(ort, file, options, [*on_stream, _CPU])
        self._wanted = providers[0].name
        require_provider(self._wanted, self._session.get_providers(), model)
        self._placed = placed(self._session)
        require_products_on_gpu(self._placed, model)
        self._run_options = ort.RunOptions()
        self._run_options.add_run_config_entry(_UNSYNCHRONIZED, "1")
        self._binding = self._session.io_binding()
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._outputs: dict[str, OnDevice] | None = None
        self._buffers: list[DeviceBuffer] = []

    @property
    def inputs(self) -> Mapping[str, tuple[tuple[int | None, ...], np.dtype[Any]]]:
        """Shape (None for a dynamic dimension) and dtype of every input."""
        return ort_session.inputs_of(self._session)

    def bind(self, feeds: Mapping[str, Array]) -> None:
        """Keep `feeds` for `run_bound`; device buffers are made anew only where a shape changes."""
        session_feeds.check(self.inputs, feeds)
        tensors = self.transfers.feed(feeds)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        if shapes == self._shapes:
            return
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        for name, tensor in tensors.items():
            kind = tensor.dtype.type
            self._binding.bind_input(name, _DEVICE, _DEVICE_ID, kind, list(tensor.shape), tensor.address)
        self._bind_outputs(shapes)
        self._shapes = shapes

    def settings_in_effect(self) -> dict[str, str]:
        """Threads and optimisation, the first provider's options, how many nodes each provider has, the host's memory:
        as the session and the CUDA runtime have them."""
        chosen = self._session.get_provider_options().get(self._wanted, {})
        return ort_session.read_back(self._session) | {
            **device.settings(self._device),
            **self._tensorrt,
            **{f"provider.{name}": str(value) for name, value in chosen.items() if "stream" not in name},
            "nodes": ", ".join(f"{name} {count}" for name, count in self._nodes().most_common()),
            "host_memory": self.transfers.host_memory(),
        }

    def node_counts(self) -> NodeCounts:
        """Nothing in INT8 of a float model. Of a quantized one it cannot be told: TensorRT's provider builds without
        the verbosity that would show it (microsoft/onnxruntime, issue 28582)."""
        from .onnx_products import named, read_products

        with tempfile.TemporaryDirectory(prefix="quantfleet-ort-") as folder:
            products = read_products(named(self._model, Path(folder)))
        if not products.quantized:
            return products.counts((), lambda _: "", ())
        elsewhere = (
            f"{node.name} ({node.operator}): on {node.provider}"
            for node in self._placed
            if node.provider != self._wanted
        )
        unseen = "ONNX Runtime does not show which kernels TensorRT runs in INT8; engine tensorrt does"
        return NodeCounts(0, 0, (unseen, *elsewhere))

    def _nodes(self) -> Counter[str]:
        """How many nodes each provider has."""
        return Counter(node.provider for node in self._placed)

    def _bind_outputs(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Give the outputs device memory where the input shapes settle theirs, else let onnxruntime allocate it."""
        settled = ort_session.output_shapes(self._session, shapes)
        self._outputs, self._buffers = None if settled is None else {}, []
        for item in self._session.get_outputs():
            if settled is None or self._outputs is None:
                self._binding.bind_output(item.name, _DEVICE, _DEVICE_ID)
                continue
            shape, dtype = settled[item.name], np.dtype(ort_session.DTYPES[item.type])
            buffer = DeviceBuffer(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
            self._buffers.append(buffer)
            self._outputs[item.name] = OnDevice(buffer.address, shape, dtype)
            self._binding.bind_output(item.name, _DEVICE, _DEVICE_ID, dtype.type, list(shape), buffer.address)

    def compute(self) -> Mapping[str, OnDevice]:
        """Run the session on the bound memory."""
        try:
            self._session.run_with_iobinding(self._binding, self._run_options)
        except Exception as error:  # onnxruntime's exceptions share no base class but Exception
            raise ort_session.failed(self._model, error) from error
        if self._outputs is not None:
            return self._outputs
        items = zip(self._session.get_outputs(), self._binding.get_outputs(), strict=True)
        return {
            item.name: OnDevice(value.data_ptr(), tuple(value.shape()), np.dtype(ort_session.DTYPES[item.type]))
            for item, value in items
        }


def require_provider(wanted: str, present: list[str], model: Path) -> None:
    """Raises QuantfleetError(ENGINE_FAILED) where a session goes without the provider that it was asked for."""
    if present[:1] != [wanted]:
        raise QuantfleetError(
            ErrorCode.ENGINE_FAILED,
            f"onnxruntime would run {model.name} on {', '.join(present)}: {wanted} did not start, for want of a GPU, "
            "of its driver or of a CUDA library",
            "see what onnxruntime printed; pip install quantfleet[gpu] brings CUDA's libraries",
        )


def require_products_on_gpu(nodes: Sequence[Placed], model: Path) -> None:
    """Raises QuantfleetError(ENGINE_FAILED) where a convolution or matrix product is left to the CPU."""
    left = [node.name for node in nodes if node.provider == _CPU and node.operator in _PRODUCTS]
    if left:
        raise QuantfleetError(
            ErrorCode.ENGINE_FAILED,
            f"onnxruntime leaves {len(left)} products of {model.name} to the CPU, such as {left[0]!r}",
            "export the model in float32, with operators that the GPU's provider has",
        )


def placed(session: Any) -> tuple[Placed, ...]:
    """Every node of the graph as it was shared out among the providers.

    The session was made with `session.record_ep_graph_assignment_info`.
    """
    return tuple(
        Placed(node.name, node.op_type, part.ep_name)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    )
