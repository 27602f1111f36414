"""The engine `onnxruntime-tensorrt`. Not for quantizing; importing this module imports no onnxruntime.

ONNX Runtime 1.31's provider is linked against TensorRT 10 (libnvinfer.so.10) and does not start with 11. So all
precisions are flags of a weakly typed network, and a calibration cache gives dynamic ranges. The library is found
because the module `tensorrt` loads it first, from wherever pip put it.
"""

import json
import tempfile
import weakref
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from quantfleet_domain.calibration.tensorrt_cache import FILE

from . import onnxruntime_session as ort_session
from .base import Engine, LoadOptions, Session
from .cuda import capability, device
from .onnxruntime_cuda import PROVIDER as CUDA
from .onnxruntime_gpu import OnnxRuntimeGpuSession, Provider, load, version
from .trt import library
from .trt.model import open_model
from .trt.plan import PRECISIONS, BuildPlan, parse_version, plan

_LINKED = (10, 0, 0)
_OLDEST_GPU = (7, 5)
_DIGITS = 16
_INSTALL = "pip install quantfleet[onnxruntime-tensorrt]"


class OnnxRuntimeTensorRt(Engine):
    """ONNX Runtime's TensorRT provider: `.onnx` files in FP32, quantized as QDQ (`s8s8`), or with a calibration cache
    beside them. What TensorRT does not take runs on the CUDA provider."""

    name = "onnxruntime-tensorrt"
    runtime = "tensorrt"
    kind = "cuda"
    precisions = PRECISIONS
    distribution = "onnxruntime-gpu"

    def version(self) -> str:
        """The version of the installed onnxruntime-gpu. Raises QuantfleetError(ENGINE_MISSING) without TensorRT 10."""
        found = version()
        require_linked(library.version())
        return found

    def precisions_on(self, isa: tuple[str, ...]) -> tuple[str, ...]:
        """All on a GPU of compute capability 7.5 or more, none on an older one."""
        found = capability.of_isa(isa)
        return self.precisions if found is not None and found >= _OLDEST_GPU else ()

    def load(self, model: Path, options: LoadOptions) -> Session:
        """A session whose engine is built for the shapes of the first batch, or kept in `options.kept`.

        Raises QuantfleetError: as `Engine.load`, and ENGINE_MISSING.
        """
        opened = open_model(model, options.form)
        chosen = plan(_LINKED, options.precision, opened.quantization)
        ort = load()
        tensorrt = library.load().__version__
        require_linked(tensorrt)
        here = device.current()
        scratch = None if options.kept else tempfile.TemporaryDirectory(prefix="quantfleet-ort-")
        facts = {"gpu": str(here), "onnxruntime": version(), "tensorrt": tensorrt, "model": opened.digest}
        name = f"onnxruntime-tensorrt-{_digest(facts | {'flags': ','.join(chosen.flags)})}"
        folder = Path(scratch.name if scratch else str(options.kept)) / name
        folder.mkdir(parents=True, exist_ok=True)
        if opened.cache is not None:
            # The provider looks for the table in the folder of its engines.
            (folder / FILE).write_bytes(opened.cache)
        providers = (Provider("TensorrtExecutionProvider", provider_options(chosen, folder)), CUDA)
        session = OnnxRuntimeGpuSession(
            ort, opened.network, opened.network, providers, options.threads, pinned=chosen.pinned, tensorrt=tensorrt
        )
        if scratch is not None:
            weakref.finalize(session, scratch.cleanup)
        return session

    def preferred_form(self, isa: tuple[str, ...], precision: str) -> str:  # noqa: ARG002 - the same everywhere
        """`s8s8`: symmetric, with zero points 0, the only form that TensorRT takes."""
        return "s8s8"


def require_linked(tensorrt: str) -> None:
    """Raises QuantfleetError(ENGINE_MISSING) for a TensorRT that ONNX Runtime's provider is not linked against."""
    if parse_version(tensorrt)[0] != _LINKED[0]:
        raise ort_session.missing(
            f"ONNX Runtime's provider is linked against TensorRT {_LINKED[0]}, and {tensorrt} is installed here",
            _INSTALL,
        )


def provider_options(chosen: BuildPlan, folder: Path) -> Mapping[str, str]:
    """The TensorRT provider's options for a plan; engines, timings and the calibration table are in `folder`.

    Names as in ONNX Runtime, core/providers/tensorrt/tensorrt_execution_provider_info.cc, and in 1.31's library. The
    provider names a kept engine after the model's file and its nodes, and neither after weights nor ranges: a folder is
    of one model, one GPU and one plan only.
    """
    options = {
        "trt_fp16_enable": str("FP16" in chosen.flags),
        "trt_int8_enable": str("INT8" in chosen.flags),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(folder),
    }
    if chosen.calibrated:
        options["trt_int8_calibration_table_name"] = FILE
        options["trt_int8_use_native_calibration_table"] = "True"
    return options


def _digest(facts: Mapping[str, str]) -> str:
    return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:_DIGITS]


ENGINE = OnnxRuntimeTensorRt()
