"""The engine `openvino-cpu`. Not for quantizing or converting; importing this module imports no openvino."""

import importlib
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.probes.cpu import cpu_facts

from . import feeds as session_feeds
from .base import Array, Engine, LoadOptions, NodeCounts, Session
from .saturation import pairs_saturate

_DEVICE = "CPU"
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
# Told nothing, OpenVINO computes in bf16 on CPUs that have it; what an INT8 model leaves in float is to be FP32.
_FLOAT_PRECISIONS = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}
_READ_BACK = (
    "INFERENCE_NUM_THREADS",
    "NUM_STREAMS",
    "PERFORMANCE_HINT",
    "EXECUTION_MODE_HINT",
    "INFERENCE_PRECISION_HINT",
    "ENABLE_CPU_PINNING",
)


class OpenVinoCpu(Engine):
    """OpenVINO's CPU plug-in (oneDNN): `.onnx` files, in FP32 and bf16, or quantized as QDQ."""

    name = "openvino-cpu"
    runtime = "onnx"
    kind = "cpu"
    precisions = ("fp32", "bf16", "int8")
    distribution = "openvino"

    def version(self) -> str:
        """The version of the installed openvino."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError as error:
            raise _missing() from error

    def start(self) -> None:
        """Look for devices: from then on OpenVINO takes the cores that the process has now for all there are."""
        _ = _openvino().Core().available_devices

    def precisions_on(self, isa: tuple[str, ...]) -> tuple[str, ...]:
        """All, but `bf16` only with AVX512-BF16 or AMX: elsewhere OpenVINO emulates it, slower than FP32."""
        return tuple(item for item in self.precisions if item != "bf16" or _BF16_FLAGS & set(isa))

    def int8_warning(self, isa: tuple[str, ...]) -> str:
        """On ARM: what of our quantized models OpenVINO 2026.4 runs in INT8 there, by its own executed graph."""
        if "asimd" in isa:
            return "on ARM OpenVINO computes quantized convolutions in floating point: onnxruntime-cpu has INT8 there"
        return ""

    def load(self, model: Path, options: LoadOptions) -> Session:
        """A session of one stream with `options.threads` threads.

        Raises QuantfleetError(ENGINE_FAILED) for bf16 on a CPU that lacks it.
        """
        if options.precision not in self.precisions_on(cpu_facts(None, "").isa):
            raise _without_bf16("the processor has neither AVX512-BF16 nor AMX-BF16")
        return OpenVinoSession(_openvino(), model, options)

    def preferred_form(self, isa: tuple[str, ...], precision: str) -> str:  # noqa: ARG002 - there is but one
        """`u8s8` where dot products of bytes do not saturate (VNNI, ARM), else `u8s8-paired`."""
        return "u8s8-paired" if pairs_saturate(isa) else "u8s8"


class OpenVinoSession(Session):
    """One compiled model with one infer request. Inputs are copied into buffers of its own.

    It is compiled for the batch size that it was loaded for, which makes it faster. When another shape is bound, it is
    compiled once more, with the dimensions open that the model leaves open.
    """

    def __init__(self, openvino: ModuleType, model: Path, options: LoadOptions) -> None:
        if not model.is_file():
            raise QuantfleetError(
                ErrorCode.MODEL_NOT_FOUND, f"there is no model file {model}", "check the model's path"
            )
        self._openvino = openvino
        self._model = model
        self._options = options
        self._core = openvino.Core()
        network = self._read(model)
        self._inputs = {
            item.any_name: (
                tuple(None if extent.is_dynamic else extent.get_length() for extent in item.partial_shape),
                np.dtype(item.element_type.to_dtype()),
            )
            for item in network.inputs
        }
        self._output_names = tuple(item.any_name for item in network.outputs)
        shapes = {name: _with_batch(shape, options.batch) for name, (shape, _) in self._inputs.items()}
        self._fixed = {} if any(None in shape for shape in shapes.values()) else shapes
        self._feeds: dict[str, Array] = {}
        self._staged: dict[str, Array] = {}
        self._received: list[Array] = []
        self._open(network)

    @property
    def inputs(self) -> Mapping[str, tuple[tuple[int | None, ...], np.dtype[Any]]]:
        """Shape (None for a dynamic dimension) and dtype of every input."""
        return self._inputs

    def bind(self, feeds: Mapping[str, Array]) -> None:
        """Keep `feeds` for `run_bound`; buffers are made anew only where a shape changes."""
        session_feeds.check(self._inputs, feeds)
        self._feeds = dict(feeds)
        shapes = {name: array.shape for name, array in feeds.items()}
        if shapes == {name: array.shape for name, array in self._staged.items()}:
            return
        if self._fixed and shapes != self._fixed:
            self._fixed = {}
            self._open(self._read(self._model))
        self._staged = {name: np.empty_like(array, order="C") for name, array in feeds.items()}
        for name, buffer in self._staged.items():
            self._request.set_tensor(name, self._openvino.Tensor(buffer, shared_memory=True))

    def run_bound(self) -> None:
        """Copy the inputs in, infer, and copy all outputs out."""
        for name, buffer in self._staged.items():
            np.copyto(buffer, self._feeds[name])
        try:
            results = self._request.infer(share_outputs=True).to_tuple()
        except RuntimeError as error:
            raise QuantfleetError(
                ErrorCode.ENGINE_FAILED, f"openvino failed on {self._model.name}: {_said(error)}"
            ) from error
        if [array.shape for array in self._received] != [array.shape for array in results]:
            self._received = [np.empty_like(array) for array in results]
        for buffer, array in zip(self._received, results, strict=True):
            np.copyto(buffer, array)

    def outputs(self) -> dict[str, Array]:
        """Copies of the outputs of the last `run_bound`."""
        return {name: np.array(array) for name, array in zip(self._output_names, self._received, strict=True)}

    def settings_in_effect(self) -> dict[str, str]:
        """Threads, precision, hints and instruction set, read back from the compiled model."""
        settings = {name.lower(): _text(self._compiled.get_property(name)) for name in _READ_BACK}
        return settings | {"isa": self._isa(), "shapes": "fixed" if self._fixed else "as in the model"}

    def node_counts(self) -> NodeCounts:
        """What the executed graph of a second model, compiled with the same options, says: see `openvino_graph`.

        It runs the bound batch, or zeros where nothing is bound.
        """
        from .onnx_products import Product, named, read_products
        from .openvino_graph import conversions, products_in

        def limit(product: Product) -> str:
            return f"OpenVINO computes it in float as it stands in the model ({product.form})"

        feeds = self._feeds or session_feeds.zeros(self._inputs)
        with tempfile.TemporaryDirectory(prefix="quantfleet-openvino-") as folder:
            model = named(self._model, Path(folder))
            compiled = self._compile(self._read(model), profiled=True)
            products = read_products(model)
        request = compiled.create_infer_request()
        request.infer(feeds)
        between = conversions(compiled, request.infer, products.operators)
        return products.counts(products_in("i8", compiled), limit, between)

    def _open(self, network: Any) -> None:
        self._compiled = self._compile(network)
        found = int(self._compiled.get_property("INFERENCE_NUM_THREADS"))
        if found != self._options.threads:
            raise QuantfleetError(
                ErrorCode.ENGINE_FAILED,
                f"openvino takes {found} threads where {self._options.threads} are asked for",
                "ask for as many threads as the device has physical cores, or less",
            )
        self._request = self._compiled.create_infer_request()
        self._staged = {}
        if self._options.precision == "bf16":
            self._check_bf16()

    def _read(self, model: Path) -> Any:
        try:
            return self._core.read_model(model)
        except RuntimeError as error:
            raise self._unreadable(error) from error

    def _compile(self, network: Any, *, profiled: bool = False) -> Any:
        settings = {
            "INFERENCE_NUM_THREADS": self._options.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _FLOAT_PRECISIONS[self._options.precision],
            "ENABLE_CPU_PINNING": False,  # the process is pinned already, and by more than threads
            "PERF_COUNT": profiled,
        }
        if self._fixed:
            try:
                network.reshape(self._fixed)
            except RuntimeError as error:
                raise QuantfleetError(
                    ErrorCode.ENGINE_FAILED,
                    f"openvino cannot give {self._model.name} the input shapes {self._fixed}: {_said(error)}",
                    "use the batch size that the model was made for",
                ) from error
        try:
            return self._core.compile_model(network, _DEVICE, settings)
        except RuntimeError as error:
            raise self._unreadable(error) from error

    def _isa(self) -> str:
        """The instruction set that OpenVINO found, e.g. `Intel AVX-512 with Intel DL Boost and bfloat16 support`."""
        return str(self._compiled.get_property("RUNTIME_REQUIREMENTS")).partition("isa=")[2]

    def _check_bf16(self) -> None:
        from .openvino_graph import products_in

        if "bfloat16" not in self._isa():
            raise _without_bf16(f"OpenVINO found {self._isa()}")
        if not products_in("bf16", self._compiled):
            raise QuantfleetError(
                ErrorCode.ENGINE_FAILED,
                f"openvino computes no convolution and no matrix product of {self._model.name} in bf16",
                "drop bf16 from the target's precisions",
            )

    def _unreadable(self, error: RuntimeError) -> QuantfleetError:
        return QuantfleetError(
            ErrorCode.MODEL_UNREADABLE,
            f"openvino cannot load {self._model.name}: {_said(error)}",
            "check the model with onnx.checker; export a quantized one as QDQ, not as QOperator",
        )


def _openvino() -> ModuleType:
    # Importing openvino would make its telemetry report that to its vendor: a node talks to its coordinator only.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None is how to forbid an import
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise _missing() from error


def _with_batch(shape: tuple[int | None, ...], batch: int) -> tuple[int | None, ...]:
    """The shape with an open first dimension closed."""
    return (batch, *shape[1:]) if shape[:1] == (None,) else shape


def _text(value: Any) -> str:
    """A property's value: an element type as OpenVINO writes it (`f32`), an enumeration's member without its class."""
    return str(value.to_string() if hasattr(value, "to_string") else value).rpartition(".")[2]


def _said(error: RuntimeError) -> str:
    """What went wrong, without the lines that say where in OpenVINO's sources."""
    frames = ("Exception from", "Check '", "FrontEnd API failed", "Summary", "While ")
    lines = [line.strip(" -") for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(frames)]
    return "; ".join(said or lines)


def _missing() -> QuantfleetError:
    return QuantfleetError(
        ErrorCode.ENGINE_MISSING, "openvino is not installed here", "pip install quantfleet[openvino]"
    )


def _without_bf16(found: str) -> QuantfleetError:
    return QuantfleetError(
        ErrorCode.ENGINE_FAILED,
        f"this CPU lacks bf16: {found}, and OpenVINO would emulate it",
        "drop bf16 from the target's precisions, or choose a pool with avx512_bf16 or amx_bf16",
    )


ENGINE = OpenVinoCpu()
