"""The engine `onnxruntime-cpu`. Not for quantizing; importing this module imports no onnxruntime."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from quantfleet_worker import onnxruntime_library
from quantfleet_worker.probes.cpu import cpu_facts

from . import feeds as session_feeds
from . import onnxruntime_session as ort_session
from .base import Array, Engine, LoadOptions, NodeCounts, Session
from .saturation import pairs_saturate

_PROVIDER = "CPUExecutionProvider"
_PRECISE = "session.x64quantprecision"
_SPINNING = "session.intra_op.allow_spinning"
_PAIRED = "u8s8-paired"
_PROFILED_RUNS = 5
_INSTALL = "pip install quantfleet[onnxruntime]"


class OnnxRuntimeCpu(Engine):
    """ONNX Runtime's CPU provider: `.onnx` files, in FP32 or quantized as QDQ, QOperator or dynamically."""

    name = "onnxruntime-cpu"
    runtime = "onnx"
    kind = "cpu"
    precisions = ("fp32", "int8")
    distribution = "onnxruntime"

    def version(self) -> str:
        """The version of the installed onnxruntime; onnxruntime-gpu has the CPU's kernels too."""
        found = onnxruntime_library.installed()
        if found is None:
            raise ort_session.missing("onnxruntime is not installed here", _INSTALL)
        return found.version

    def load(self, model: Path, options: LoadOptions) -> Session:
        """A session of `options.threads` intra-op threads, at full graph optimisation."""
        saturating = options.precision == "int8" and pairs_saturate(cpu_facts(None, "").isa)
        return OnnxRuntimeSession(ort_session.module(_INSTALL), model, options, saturating)

    def preferred_form(self, isa: tuple[str, ...], precision: str) -> str:  # noqa: ARG002 - there is but one
        """`u8s8` where dot products of bytes do not saturate (VNNI, ARM), else `u8s8-paired`."""
        return _PAIRED if pairs_saturate(isa) else "u8s8"


class OnnxRuntimeSession(Session):
    """One model in an InferenceSession. Inputs are copied into buffers of its own, outputs land in such buffers.

    `saturating` is whether INT8 products would saturate here and the session has to avoid it.
    """

    def __init__(self, ort: ModuleType, model: Path, options: LoadOptions, saturating: bool) -> None:
        self._ort = ort
        self._model = ort_session.existing(model)
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
        return ort_session.inputs_of(self._session)

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
            raise ort_session.failed(self._model, error) from error
        if not self._fixed_outputs:
            names = (item.name for item in self._session.get_outputs())
            self._received = dict(zip(names, self._binding.copy_outputs_to_cpu(), strict=True))

    def outputs(self) -> dict[str, Array]:
        """Copies of the outputs of the last `run_bound`."""
        return {name: np.array(array) for name, array in self._received.items()}

    def settings_in_effect(self) -> dict[str, str]:
        """Threads, optimisation, providers and INT8 mode, read back from the session."""
        options = self._session.get_session_options()
        return ort_session.read_back(self._session) | {
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
        # More threads than processors would spin in each other's way.
        spin = 1 < self._options.threads <= len(os.sched_getaffinity(0))
        # _PRECISE turns s8 weights, which could saturate, into u8 ones: exact, and half as fast where there is VNNI.
        entries = {_SPINNING: "1" if spin else "0", _PRECISE: "1" if self._precise else "0"}
        options = ort_session.options_with(self._ort, self._options.threads, entries)
        if profiles is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profiles / "profile")
        return ort_session.opened(self._ort, model, options, [_PROVIDER])

    def _bind_outputs(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Give the outputs buffers of their own where the input shapes settle theirs, else let onnxruntime allocate."""
        settled = ort_session.output_shapes(self._session, shapes)
        self._fixed_outputs = settled is not None
        self._received = {}
        for item in self._session.get_outputs():
            if settled is None:
                self._binding.bind_output(item.name)
                continue
            buffer: Array = np.empty(settled[item.name], ort_session.DTYPES[item.type])
            self._received[item.name] = buffer
            self._binding.bind_ortvalue_output(item.name, self._ort.OrtValue.ortvalue_from_numpy(buffer))


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


ENGINE = OnnxRuntimeCpu()
