"""Paddle Inference with TensorRT on an NVIDIA GPU: engine `paddle-tensorrt`. Not for quantizing models.

It is written for Paddle 2.6, the last of which PyPI has a version for GPUs, in an environment of its own.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from quantfleet_domain.errors import ErrorCode, QuantfleetError

from .base import Array, Engine, LoadOptions, Session
from .cuda import device
from .cuda.capability import of_isa
from .paddle_cuda import calibration, library
from .paddle_cuda.model import open_model, shapes_at
from .paddle_cuda.plan import PRECISIONS, Form, plan, precisions_of
from .paddle_cuda.tensorrt_session import TensorRtSession


class PaddleTensorRt(Engine):
    """Paddle with TensorRT: FP32, FP16, and INT8 beside FP16 of a quantized program or with calibration tables."""

    name = "paddle-tensorrt"
    runtime = "paddle-tensorrt"
    kind = "cuda"
    precisions = PRECISIONS
    distribution = library.DISTRIBUTION

    def version(self) -> str:
        """The version of the installed paddlepaddle-gpu. Raises QuantfleetError(ENGINE_MISSING), for others than 2.6
        too."""
        found = library.version(self.name)
        if not found.startswith("2.6."):
            raise QuantfleetError(
                ErrorCode.ENGINE_MISSING,
                f"{self.distribution} {found} is installed, and this engine knows the TensorRT of 2.6",
                f"install {self.distribution}==2.6.2 in an environment of its own (docs/guide/hardware.md)",
            )
        return found

    def precisions_on(self, isa: tuple[str, ...]) -> tuple[str, ...]:
        """FP16 and INT8 where the GPU has the arithmetic for them."""
        return precisions_of(of_isa(isa))

    def load(self, model: Path, options: LoadOptions) -> Session:
        """Load a directory with `.pdmodel`, `.pdiparams` and, where the form wants them, calibration tables.

        Engines are built, or found again in `options.kept`, now where the inputs' shapes are known, else when the first
        batch is bound. Raises QuantfleetError: MODEL_NOT_FOUND, MODEL_UNREADABLE, MODEL_UNSUPPORTED; SCALES_INVALID for
        a damaged table; ENGINE_MISSING; ENGINE_FAILED where there is no GPU, or it or Paddle lacks the precision, or
        TensorRT takes nothing of the model.
        """
        opened = open_model(model)
        chosen = plan(options.precision, opened.form)
        self.version()
        paddle = library.paddle_on_gpu(self.name)
        tensorrt = library.tensorrt_version(paddle)
        here = device.current()
        if options.precision not in precisions_of(here.capability):
            raise QuantfleetError(
                ErrorCode.ENGINE_FAILED, f"{here} has no arithmetic for {options.precision}", "choose another precision"
            )
        session = TensorRtSession(paddle, opened, chosen, options, tensorrt)
        shapes = shapes_at(opened.expected(options.shapes), options.batch)
        if shapes is not None:
            session.open(shapes)
        return session

    def preferred_form(self, isa: tuple[str, ...], precision: str) -> str:  # noqa: ARG002 - the same on every GPU
        """`qdq`: the layers that the program keeps in float stay so, which a table cannot say."""
        return "qdq"

    def calibrate_natively(
        self,
        model: Path,
        batches: Iterable[Mapping[str, Array]],
        options: LoadOptions,  # noqa: ARG002 - the samples say all there is to know
        out: Path,
    ) -> None:
        """Have TensorRT's entropy calibrator find ranges over all batches, and write the model and Paddle's tables.

        Raises QuantfleetError: as `load`, and MODEL_UNSUPPORTED for a model that is quantized already, DATA_EMPTY.
        """
        opened = open_model(model)
        if opened.form is not Form.FLOAT:
            raise QuantfleetError(
                ErrorCode.MODEL_UNSUPPORTED,
                f"{opened.files.program} is quantized already",
                "give the float model to be calibrated",
            )
        self.version()
        paddle = library.paddle_on_gpu(self.name)
        library.tensorrt_version(paddle)
        calibration.calibrate(paddle, opened, batches, out)


ENGINE = PaddleTensorRt()
