"""The engine `tensorrt`. Not for quantizing; importing this module imports no TensorRT."""

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from quantfleet_domain.calibration.tensorrt_cache import FILE, CalibrationCache
from quantfleet_domain.errors import ErrorCode, QuantfleetError

from ..base import Array, Engine, LoadOptions, Session
from ..cuda import capability, device
from . import build, calibration, library
from .model import open_model, prepared, shapes_for
from .plan import PRECISIONS, Quantization, has_calibrators, no_calibrators, parse_version, plan
from .session import TensorRtSession
from .workshop import Workshop

_OLDEST_GPU = (7, 5)
"""TensorRT 10.5 and newer run on Turing and later only (NVIDIA, TensorRT 10.5.0 release notes)."""


class TensorRt(Engine):
    """NVIDIA TensorRT: `.onnx` files in FP32, quantized as QDQ (`s8s8`), or with a calibration cache beside them."""

    name = "tensorrt"
    runtime = "tensorrt"
    kind = "cuda"
    precisions = PRECISIONS
    distribution = "tensorrt"

    def version(self) -> str:
        """The version of the installed TensorRT."""
        return library.version()

    def precisions_on(self, isa: tuple[str, ...]) -> tuple[str, ...]:
        """All on a GPU of compute capability 7.5 or more, none on an older one: TensorRT does not run there."""
        found = capability.of_isa(isa)
        return self.precisions if found is not None and found >= _OLDEST_GPU else ()

    def load(self, model: Path, options: LoadOptions) -> Session:
        """Build an engine for `options.batch`, or take one that was kept in `options.kept`.

        Raises QuantfleetError: MODEL_NOT_FOUND, MODEL_UNREADABLE, MODEL_UNSUPPORTED; ENGINE_MISSING; ENGINE_FAILED
        where there is no GPU, or the version or the GPU lacks the precision.
        """
        opened = open_model(model, options.form)
        version = library.load().__version__
        chosen = plan(parse_version(version), options.precision, opened.quantization)
        here = device.current()
        if here.capability < _OLDEST_GPU:
            raise QuantfleetError(
                ErrorCode.ENGINE_FAILED, f"TensorRT {version} does not run on {here}", "choose a GPU from 7.5 on"
            )
        shapes = shapes_for(opened.inputs, options.batch, options.shapes)
        return TensorRtSession(Workshop(opened, chosen, here, version, options.kept), shapes)

    def preferred_form(self, isa: tuple[str, ...], precision: str) -> str:  # noqa: ARG002 - the same everywhere
        """`s8s8`: symmetric, with zero points 0, the only form that TensorRT takes."""
        return "s8s8"

    def calibrate_natively(
        self, model: Path, batches: Iterable[Mapping[str, Array]], options: LoadOptions, out: Path
    ) -> None:
        """Have TensorRT's entropy calibrator choose the scales of an FP32 model from samples, one a batch, and write
        the model and its cache into the folder `out`.

        Raises QuantfleetError: as `load`, and ENGINE_FAILED for TensorRT 11, which has no calibrator.
        """
        from ..onnx_reading import external_files

        opened = open_model(model, "")
        version = parse_version(library.load().__version__)
        if not has_calibrators(version):
            raise no_calibrators(version)
        device.current()
        shapes = shapes_for(opened.inputs, 1, options.shapes)
        if opened.quantization is Quantization.QDQ or shapes is None:
            what = "is quantized already" if shapes else "has open dimensions besides the batch"
            raise QuantfleetError(
                ErrorCode.MODEL_UNSUPPORTED, f"{opened.network.name} {what}, and cannot be calibrated by TensorRT"
            )
        chosen = plan(version, "int8", Quantization.CACHE)
        samples, collected = calibration.Samples(batches), calibration.Collected()
        with tempfile.TemporaryDirectory(prefix="quantfleet-tensorrt-") as scratch:
            network = prepared(opened, chosen, Path(scratch))
            try:
                build.build(network, chosen, shapes, calibrator=calibration.collecting(samples, collected))
            finally:  # what went wrong with a sample says more than that the build failed for it
                samples.finish()
        CalibrationCache.from_text(collected.cache, "TensorRT's calibration cache")
        folder = model.parent.resolve()
        for path in (folder / model.name, *external_files(model)):
            copy = out / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        (out / FILE).write_bytes(collected.cache)


ENGINE = TensorRt()
