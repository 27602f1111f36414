"""A Paddle model directory as the engines on GPUs read it: its program, its form, its inputs. Not for running it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from quantfleet_domain.calibration.tensorrt_cache import FILE
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_files import PaddleFiles, Signature, find_files, read_signature
from quantfleet_worker.models.paddle_quantization import Quantization, QuantizedLayers

from ..feeds import Inputs
from .plan import Form, why_not
from .tables import CACHE_FOLDER, is_table

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class PaddleModel:
    """`tables` are the files that Paddle's own calibration left, and that with a table for the whole model."""

    files: PaddleFiles
    signature: Signature
    form: Form
    tables: tuple[Path, ...]

    @property
    def meant(self) -> QuantizedLayers:
        """The layers that are to run in INT8, and those in float."""
        layers = self.signature.layers
        if self.form in (Form.TABLE, Form.NATIVE):  # TensorRT is free to run any of them in INT8
            return replace(layers, quantized=layers.in_float, in_float=())
        return layers

    def digest(self) -> str:
        """SHA-256 over the files' contents, as hexadecimal digits."""
        found = sha256()
        for path in (self.files.program, self.files.parameters, *self.tables):
            found.update(sha256(path.read_bytes()).digest())
        return found.hexdigest()

    def expected(self, shapes: Sequence[tuple[str, tuple[int, ...]]]) -> Inputs:
        """What may be bound: the declared inputs, with the other axes as the job says where it says so. Paddle takes
        other sizes than the declared ones."""
        asked = dict(shapes)
        return {
            name: ((None, *asked[name][1:]) if name in asked else shape, dtype)
            for name, (shape, dtype) in self.signature.inputs.items()
        }


def open_model(model: Path) -> PaddleModel:
    """Look at a model directory.

    Raises QuantfleetError: MODEL_NOT_FOUND, MODEL_UNREADABLE, MODEL_UNSUPPORTED (PIR, which Paddle 2.6 does not read;
    quantized in a way that TensorRT does not run).
    """
    files = find_files(model)
    if files.pir:
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"{files.program} is a PIR program, which Paddle 2.6 does not read",
            "export the model as .pdmodel (FLAGS_enable_pir_api=0)",
        )
    signature = read_signature(files)
    if reason := why_not(signature.layers.how):
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"{files.program} {reason}",
            "quantize the float model with PaddleSlim's quant_post_static, or give the float model",
        )
    native = tuple(sorted(path for path in (model / CACHE_FOLDER).glob("*") if is_table(path.name)))
    whole = (model / FILE,) if (model / FILE).is_file() else ()
    return PaddleModel(files, signature, _form(signature.layers.how, bool(native), bool(whole)), native + whole)


def shapes_at(expected: Inputs, batch: int) -> Shapes | None:
    """The shapes to prepare for, at a batch size; None where an axis besides the batch is open."""
    if any(axis is None for shape, _ in expected.values() for axis in shape[1:]):
        return None
    return {name: (shape[0] or batch, *(axis or 0 for axis in shape[1:])) for name, (shape, _) in expected.items()}


def _form(how: Quantization, native: bool, whole: bool) -> Form:
    if how is not Quantization.NONE:
        return Form.QDQ
    if native:
        return Form.NATIVE
    return Form.TABLE if whole else Form.FLOAT
