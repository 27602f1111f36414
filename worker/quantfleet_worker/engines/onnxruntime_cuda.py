"""The engine `onnxruntime-cuda`. Not for quantizing; importing this module imports no onnxruntime.

It offers no INT8: of the quantized operators ONNX Runtime 1.31's CUDA provider has kernels for QuantizeLinear and
DequantizeLinear and, of those that multiply, for MatMulInteger alone (s8 × s8); it has none for QLinearConv,
QLinearMatMul, QGemm and ConvInteger. So a QDQ model is computed in float between conversions.
"""

import tempfile
from pathlib import Path

from .base import Engine, LoadOptions, Session
from .cuda import capability
from .onnxruntime_gpu import OnnxRuntimeGpuSession, Provider, load, version

# TF32 rounds the factors of FP32 products to 10 bits of mantissa; what is called FP32 is to be FP32.
PROVIDER = Provider("CUDAExecutionProvider", {"use_tf32": "0"})
_OLDEST_GPU = (7, 5)
"""The distribution has kernels for these and newer GPUs."""


class OnnxRuntimeCuda(Engine):
    """ONNX Runtime's CUDA provider: `.onnx` files in FP32, and in FP16 through a copy of the file in FP16."""

    name = "onnxruntime-cuda"
    runtime = "onnx"
    kind = "cuda"
    precisions = ("fp32", "fp16")
    distribution = "onnxruntime-gpu"

    def version(self) -> str:
        """The version of the installed onnxruntime-gpu."""
        return version()

    def precisions_on(self, isa: tuple[str, ...]) -> tuple[str, ...]:
        """All on a GPU of compute capability 7.5 or more, none on an older one."""
        found = capability.of_isa(isa)
        return self.precisions if found is not None and found >= _OLDEST_GPU else ()

    def load(self, model: Path, options: LoadOptions) -> Session:
        """A session on the GPU. Raises QuantfleetError: as `Engine.load`, and ENGINE_MISSING, MODEL_UNSUPPORTED."""
        from ..quantizers import onnx_half
        from .onnx_reading import read

        read(model)
        ort = load()
        if options.precision != "fp16":
            return OnnxRuntimeGpuSession(ort, model, model, (PROVIDER,), options.threads, pinned=False)
        with tempfile.TemporaryDirectory(prefix="quantfleet-ort-") as folder:
            half = onnx_half.converted(model, Path(folder))
            return OnnxRuntimeGpuSession(ort, model, half, (PROVIDER,), options.threads, pinned=False)

    def preferred_form(self, isa: tuple[str, ...], precision: str) -> str:  # noqa: ARG002 - it runs no quantized model
        """None: it computes quantized models in float."""
        return ""


ENGINE = OnnxRuntimeCuda()
