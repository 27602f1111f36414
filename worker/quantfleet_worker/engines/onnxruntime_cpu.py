"""The engine `onnxruntime-cpu`. Not for quantizing; importing this module imports no onnxruntime."""

import os
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker import onnxruntime_library
from quantfleet_worker.probes.cpu import cpu_facts

from . import feeds as session_feeds
from .base import Array, Engine, LoadOptions, NodeCounts, Session
from .saturation import pairs_saturate

_PROVIDER = "CPUExecutionProvider"
_PRECISE = "session.x64quantprecision"
_SPINNING = "session.intra_op.allow_spinning"
_PAIRED = "u8s8-paired"
_PROFILED_RUNS = 5

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}


class OnnxRuntimeCpu(Engine):
    """ONNX Runtime's CPU provider: `.onnx` files, in FP32 or quantized as QDQ, QOperator or dynamically."""

    name = "onnxruntime-cpu"
    runtime = "onnx"
    kind = "cpu"
    precisions = ("fp32", "int8")
    distribution = "onnxruntime"

    def version(self) -> str:
        """The version of the installed onnxruntime."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError as error:
            raise _missing() from error

    def load(self, model: Path, options: LoadOptions) -> Session:
        """A session of `options.threads` intra-op threads, at full graph optimisation."""
        saturating = options.precision == "int8" and pairs_saturate(cpu_facts(None, "").isa)
        return OnnxRuntimeSession(_onnxruntime(), model, options, saturating)

    def preferred_form(self, isa: tuple[str, ...], precision: str) -> str:  # noqa: ARG002 - there is but one
        """`u8s8` where dot products of bytes do not saturate (VNNI, ARM), else `u8s8-paired`."""
        return _PAIRED if pairs_saturate(isa) else "u8s8"


class OnnxRuntimeSession(Session):
    """One model in an InferenceSession. Inputs are copied into buffers of its own, outputs land in such buffers.

    `saturating` is whether INT8 products would saturate here and the session has to avoid it.
    """

    def __init__(self, ort: ModuleType, model: Path, options: LoadOptions, saturating: bool) -> None:
        if not model.is_file():
            raise QuantfleetError(
                ErrorCode.MODEL_NOT_FOUND, f"there is no model file {model}", "check the model's path"
            )
        self._ort = ort
        self._model = model
        self._precise = saturating and _form(model) != _PAIRED
        self._options = options
        self._session = self._open(model)
        self._binding = self._session.io_binding()
        self._feeds: dict[str, Array] = {}
        self._staged: dict[str, Array] = {}
        self._received: dict[str, Array] = {}
        self._fixed_outputs = False

    @property
    def inputs(self) -> Mapping[str, tuple[tuple[int | None, ...], np.dtype[Any]]]:
        """Shape (None for a dynamic dimension) and dtype of every input."""
        return {
            item.name: (
                tuple(extent if isinstance(extent, int) else None for extent in item.shape),
                np.dtype(_DTYPES[item.type]),
            )
            for item in self._session.get_inputs()
        }

    def bind(self, feeds: Mapping[str, Array]) -> None:
        """Keep `feeds` for `run_bound`; buffers are made anew only where a shape changes."""
        session_feeds.check(self.inputs, feeds)
        self._feeds = dict(feeds)
        shapes = {name: array.shape for name, array in feeds.items()}
        if shapes == {name: array.shape for name, array in self._staged.items()}:
            return
        self._staged = {name: np.empty_like(array, order="C") for name, array in feeds.items()}
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        for name, buffer in self._staged.items():
            self._binding.bind_ortvalue_input(name, self._ort.OrtValue.ortvalue_from_numpy(buffer))
        self._bind_outputs(shapes)

    def run_bound(self) -> None:
        """Copy the inputs in, infer, and have all outputs in host memory."""
        for name, buffer in self._staged.items():
            np.copyto(buffer, self._feeds[name])
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # onnxruntime's exceptions share no base class but Exception
            raise QuantfleetError(
                ErrorCode.ENGINE_FAILED, f"onnxruntime failed on {self._model.name}: {error}"
            ) from error
        if not self._fixed_outputs:
            names = (item.name for item in self._session.get_outputs())
            self._received = dict(zip(names, self._binding.copy_outputs_to_cpu(), strict=True))

    def outputs(self) -> dict[str, Array]:
        """Copies of the outputs of the last `run_bound`."""
        return {name: np.array(array) for name, array in self._received.items()}

    def settings_in_effect(self) -> dict[str, str]:
        """Threads, optimisation, providers and INT8 mode, read back from the session."""
        options = self._session.get_session_options()
        return {
            "providers": ",".join(self._session.get_providers()),
            "intra_op_num_threads": str(options.intra_op_num_threads),
            "inter_op_num_threads": str(options.inter_op_num_threads),
            "execution_mode": options.execution_mode.name,
            "graph_optimization_level": options.graph_optimization_level.name,
            "allow_spinning": options.get_session_config_entry(_SPINNING),
            "x64quantprecision": options.get_session_config_entry(_PRECISE),
        }

    def node_counts(self) -> NodeCounts:
        """What the profile of a second session with the same options says: see `onnxruntime_profile`.

        It runs the bound batch, or zeros where nothing is bound.
        """
        from .onnx_products import Product, named, read_products
        from .onnxruntime_profile import Profile

        def limit(product: Product) -> str:
            if product.operator == "Conv" and product.float_output:
                return "its output is used unquantized"
            return f"onnxruntime has no INT8 kernel for it as it stands in the model ({product.form})"

        with tempfile.TemporaryDirectory(prefix="quantfleet-ort-") as folder:
            model = named(self._model, Path(folder))
            profiled = self._open(model, Path(folder))
            feeds = self._feeds or session_feeds.zeros(self.inputs)
            for _ in range(1 + _PROFILED_RUNS):
                profiled.run(None, feeds)
            profile = Profile(Path(profiled.end_profiling()), _PROFILED_RUNS)
            products = read_products(model)
        return products.counts(profile.int8_nodes(), limit, profile.conversions(products.operators))

    def _open(self, model: Path, profiles: Path | None = None) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self._options.threads
        options.inter_op_num_threads = 1
        options.execution_mode = self._ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        # More threads than processors would spin in each other's way.
        spin = 1 < self._options.threads <= len(os.sched_getaffinity(0))
        options.add_session_config_entry(_SPINNING, "1" if spin else "0")
        # This turns s8 weights, which could saturate, into u8 ones: exact, and half as fast where there is VNNI.
        options.add_session_config_entry(_PRECISE, "1" if self._precise else "0")
        options.log_severity_level = 3
        if profiles is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profiles / "profile")
        try:
            return self._ort.InferenceSession(str(model), options, providers=[_PROVIDER])
        except Exception as error:  # onnxruntime's exceptions share no base class but Exception
            raise QuantfleetError(
                ErrorCode.MODEL_UNREADABLE,
                f"onnxruntime cannot load {self._model.name}: {error}",
                "check the model with onnx.checker, or export it again",
            ) from error

    def _bind_outputs(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Give the outputs buffers of their own where the input shapes settle theirs, else let onnxruntime allocate."""
        symbols = {
            symbol: extent
            for item in self._session.get_inputs()
            for symbol, extent in zip(item.shape, shapes[item.name], strict=True)
            if isinstance(symbol, str)
        }
        outputs = self._session.get_outputs()
        settled = {item.name: [symbols.get(extent, extent) for extent in item.shape] for item in outputs}
        self._fixed_outputs = all(isinstance(extent, int) for shape in settled.values() for extent in shape)
        self._received = {}
        for item in outputs:
            if not self._fixed_outputs:
                self._binding.bind_output(item.name)
                continue
            shape: Any = settled[item.name]
            buffer: Array = np.empty(shape, _DTYPES[item.type])
            self._received[item.name] = buffer
            self._binding.bind_ortvalue_output(item.name, self._ort.OrtValue.ortvalue_from_numpy(buffer))


def _onnxruntime() -> ModuleType:
    try:
        return onnxruntime_library.load()
    except ImportError as error:
        raise _missing() from error


def _form(model: Path) -> str:
    """The form that our quantizer wrote into the file, empty for any other file."""
    import onnx
    from google.protobuf.message import DecodeError

    from ..quantizers.metadata import FORM_KEY

    try:
        properties = onnx.load(model, load_external_data=False).metadata_props
    except DecodeError:  # opening the session will say what is wrong with the file
        return ""
    return next((item.value for item in properties if item.key == FORM_KEY), "")


def _missing() -> QuantfleetError:
    return QuantfleetError(
        ErrorCode.ENGINE_MISSING, "onnxruntime is not installed here", "pip install quantfleet[onnxruntime]"
    )


ENGINE = OnnxRuntimeCpu()
