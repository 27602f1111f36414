"""Paddle Inference with its own kernels on an NVIDIA GPU: engine `paddle-gpu`. Not for TensorRT: see `paddle_tensorrt`.

It has no INT8: Paddle's own GPU kernels compute in float.
"""

from pathlib import Path
from typing import Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError

from .base import Engine, LoadOptions, NodeCounts, Session
from .cuda.capability import fast_fp16, of_isa
from .paddle_cuda import library, predictors
from .paddle_cuda.model import PaddleModel, Shapes, open_model, shapes_at
from .paddle_cuda.plan import Form
from .paddle_cuda.session import GpuSession

_PRECISIONS = {"fp32": "Float32", "fp16": "Half"}


class PaddleGpu(Engine):
    """Paddle Inference on a GPU, FP32 and FP16, of float models."""

    name = "paddle-gpu"
    runtime = "paddle"
    kind = "cuda"
    precisions = tuple(_PRECISIONS)
    distribution = library.DISTRIBUTION

    def version(self) -> str:
        """The version of the installed paddlepaddle-gpu. Raises QuantfleetError(ENGINE_MISSING)."""
        return library.version(self.name)

    def precisions_on(self, isa: tuple[str, ...]) -> tuple[str, ...]:
        """FP32 on every GPU, FP16 where it has the arithmetic for it."""
        found = of_isa(isa)
        if found is None:
            return ()
        return self.precisions if fast_fp16(found) else ("fp32",)

    def load(self, model: Path, options: LoadOptions) -> Session:
        """Load a directory with `.pdmodel` and `.pdiparams`.

        Raises QuantfleetError: MODEL_NOT_FOUND, MODEL_UNREADABLE, MODEL_UNSUPPORTED; ENGINE_MISSING; ENGINE_FAILED
        where there is no GPU, or for another precision.
        """
        if options.precision not in _PRECISIONS:
            raise QuantfleetError(
                ErrorCode.ENGINE_FAILED,
                f"Paddle's own GPU kernels have no {options.precision}",
                "engine paddle-tensorrt has INT8 beside FP16",
            )
        opened = open_model(model)
        if opened.form is not Form.FLOAT:
            raise QuantfleetError(
                ErrorCode.MODEL_UNSUPPORTED,
                f"{opened.files.program} is quantized, and Paddle's own GPU kernels compute in float",
                "run it by engine paddle-tensorrt, or give the float model",
            )
        session = _DirectSession(library.paddle_on_gpu(self.name), opened, options)
        session.open(shapes_at(opened.expected(options.shapes), options.batch) or {})
        return session

    def preferred_form(self, isa: tuple[str, ...], precision: str) -> str:  # noqa: ARG002 - it has no quantized form
        """None: it runs float models only."""
        return ""


class _DirectSession(GpuSession):
    def __init__(self, paddle: Any, model: PaddleModel, options: LoadOptions) -> None:
        super().__init__(paddle, model.signature.inputs, model.expected(options.shapes), pinned=False)
        self._model = model
        self._precision = options.precision

    def prepare(self, shapes: Shapes) -> tuple[Any, Any]:  # noqa: ARG002 - Paddle's kernels take any
        """See GpuSession."""
        config = predictors.directly(self.paddle, self._model.files, _PRECISIONS[self._precision], self.stream)
        return config, predictors.create(self.paddle, config, self._model.files.program.name)

    def node_counts(self) -> NodeCounts:
        """None in INT8, of all layers with constant weights."""
        return NodeCounts(0, len(self._model.signature.layers.in_float), ())


ENGINE = PaddleGpu()
