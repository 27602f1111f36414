"""What a job file says of how INT8 comes about: the list of quantizations of a model. Not for calibration, nor for what
a training is.
"""

from dataclasses import dataclass
from pathlib import Path

from quantfleet.jobfile import models, trainings
from quantfleet.jobfile.models import ModelFiles
from quantfleet.jobfile.quantized import is_quantized
from quantfleet.jobfile.samples import Found
from quantfleet.jobfile.trainings import TrainingPart
from quantfleet_domain.errors import ErrorCode
from quantfleet_domain.jobs.spec import MODEL_FORMATS, QUANTIZATIONS, TRAINED
from quantfleet_wire.yaml_tree import Value

GIVEN_KEYS = ("method", "path", "format")
_KEYS = {
    "static": ("method",),
    "dynamic": ("method",),
    "native": ("method",),
    "given": GIVEN_KEYS,
    "distill": trainings.DISTILL_KEYS,
    "qat": trainings.QAT_KEYS,
}


@dataclass(frozen=True)
class QuantizationPart:
    """The quantizations of a model by name, and what those of them need that a name does not say."""

    names: tuple[str, ...]
    trainings: tuple[TrainingPart, ...]
    given: ModelFiles | None

    def training(self, method: str) -> TrainingPart | None:
        """The training by this method, if there is one."""
        return next((training for training in self.trainings if training.method == method), None)


STATIC = QuantizationPart(("static",), (), None)


def quantizations(value: Value | None, files: ModelFiles, data: tuple[Found, ...], base: Path) -> QuantizationPart:
    """Read the list `quantization`; `data` are the calibration samples, from which a distillation learns by default."""
    if value is None:
        return QuantizationPart(("given",), (), None) if is_quantized(files) else STATIC
    names: list[str] = []
    trained: list[TrainingPart] = []
    given: ModelFiles | None = None
    for item in value.items():
        name, keys = _method(item)
        if name in names:
            raise item.error(f"{name!r} stands in this list a second time", "keep one of them")
        names.append(name)
        if name in TRAINED:
            trained.append(trainings.training(item, name, keys, data, base))
        elif name == "given" and not (is_quantized(files) and len(keys) <= 1):
            given = _given(item, keys, base)
    return QuantizationPart(tuple(names), tuple(trained), given)


def _method(item: Value) -> tuple[str, dict[str, Value]]:
    """The name of a quantization and its keys: a list item is a name, or a mapping with `method`."""
    if not item.is_mapping:
        name = item.choice("quantization", QUANTIZATIONS)
        if name in TRAINED:
            raise item.error(f"{name} needs more than its name", f"write `{{method: {name}, config: FILE, …}}`")
        return name, {}
    method = item.mapping().get("method")
    if method is None:
        raise item.error("this quantization has no method", f"write `method:` and one of {', '.join(QUANTIZATIONS)}")
    name = method.choice("quantization", QUANTIZATIONS)
    return name, item.mapping(_KEYS[name])


def _given(item: Value, keys: dict[str, Value], base: Path) -> ModelFiles:
    if "path" not in keys:
        todo = "write `{method: given, path: QUANTIZED}`, an .onnx file or a Paddle model's directory"
        raise item.error("the given quantized model has no path", todo)
    path = keys["path"].path(base)
    found = models.find(
        keys["path"], path, keys["format"].choice("format", MODEL_FORMATS) if "format" in keys else None
    )
    if not is_quantized(found):
        what = f"{path} has no quantized operator"
        raise keys["path"].error(what, "give the quantized model, not its FP32 form", ErrorCode.MODEL_UNSUPPORTED)
    return found
