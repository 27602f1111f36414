"""What a job file says, with defaults filled in and paths found on this disk. Not for hashing or sending files."""

from dataclasses import dataclass
from pathlib import Path

from quantfleet.jobfile import judging, measuring, models, quantizing, samples, scales
from quantfleet.jobfile.judging import EvaluatePart
from quantfleet.jobfile.models import ModelFiles
from quantfleet.jobfile.quantized import is_quantized
from quantfleet.jobfile.quantizing import QuantizationPart
from quantfleet.jobfile.samples import Found
from quantfleet_domain.calibration.calibrators import (
    CALIBRATOR_NAMES,
    CALIBRATORS,
    DEFAULT_CALIBRATOR,
    EXTREMES_CALIBRATORS,
)
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.spec import (
    MODEL_FORMATS,
    MODES,
    BenchmarkSpec,
    InputShape,
    TargetSpec,
)
from quantfleet_wire.yaml_tree import Document, Value, parse

DEFAULT_PERCENTILE = CALIBRATORS["percentile"].parameter or 100.0
API_VERSION = "quantfleet/v1"
JOB_KEYS = (
    "apiVersion",
    "kind",
    "name",
    "model",
    "models",
    "calibration",
    "quantization",
    "targets",
    "benchmark",
    "evaluate",
    "gates",
    "patience",
)
MODEL_KEYS = ("name", "path", "format", "input_shapes", "calibration", "quantization", "targets", "evaluate")
CALIBRATION_KEYS = (
    "data",
    "scales",
    "calibrator",
    "percentile",
    "shards",
    "bias_correction",
    "exclude_below_db",
    "ties",
    "mixed",
    "reuse",
    "extremes_only",
)


@dataclass(frozen=True)
class CalibrationPart:
    """The samples to calibrate with and how, as `CalibrationSpec` has it; `shards` 0 is auto.

    With `scales`, a file, there may be no samples, and those that there are serve bias correction.
    """

    samples: tuple[Found, ...]
    scales: Path | None
    calibrator: str
    percentile: float
    shards: int
    bias_correction: bool
    exclude_below_db: float | None
    ties: bool
    mixed: bool
    reuse: bool
    extremes_only: bool


@dataclass(frozen=True)
class ModelPart:
    """One model: its files, and everything that is to be done to it."""

    name: str
    files: ModelFiles
    input_shapes: tuple[InputShape, ...]
    preprocess: Path | None
    calibration: CalibrationPart | None
    targets: tuple[TargetSpec, ...]
    evaluate: EvaluatePart | None
    quantization: QuantizationPart
    quantized: bool


@dataclass(frozen=True)
class JobDocument:
    """A whole job file; `text` is the file as it is written."""

    name: str
    models: tuple[ModelPart, ...]
    benchmark: BenchmarkSpec
    gates: tuple[str, ...]
    patience_s: float
    text: str


def read(path: Path) -> JobDocument:
    """Read the job file at `path`; paths in it are relative to it. Raises QuantfleetError naming line and column."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        what = f"the job file {path} cannot be read: {error.strerror}"
        raise QuantfleetError(ErrorCode.JOB_INVALID, what, "give the path of a job file") from error
    except UnicodeDecodeError as error:
        what = f"{path}: byte {error.start} is not UTF-8"
        raise QuantfleetError(ErrorCode.JOB_INVALID, what, "save the file as UTF-8") from error
    return read_text(text, str(path), path.parent)


def read_text(text: str, source: str, base: Path) -> JobDocument:
    """Read a job from a text; errors call it `source`, and paths are relative to `base`."""
    root = parse(text, Document(source))
    keys = root.mapping(JOB_KEYS)
    for key, wanted in (("apiVersion", API_VERSION), ("kind", "Job")):
        if key not in keys:
            raise root.error(f"a job has the key {key}", f"write `{key}: {wanted}`")
        if keys[key].text() != wanted:
            raise keys[key].error(f"{key} is {keys[key].text()!r}", f"write `{key}: {wanted}`")
    if "name" not in keys:
        raise root.error("the job has no name", "write `name: something`")
    parts = tuple(_model(value, keys, base) for value in _model_values(root, keys))
    for value, part in zip(_model_values(root, keys), parts, strict=True):
        if [other.name for other in parts].count(part.name) > 1:
            raise value.error(f"two models are called {part.name!r}", "give each model its own `name:`")
    with_samples = any((part.calibration and part.calibration.samples) or part.evaluate for part in parts)
    return JobDocument(
        name=keys["name"].text(),
        models=parts,
        benchmark=measuring.benchmark(keys.get("benchmark"), MODES if with_samples else MODES[:1]),
        gates=keys["gates"].each(measuring.gate, "gate") if "gates" in keys else (),
        patience_s=measuring.duration(keys["patience"]) if "patience" in keys else measuring.DEFAULT_PATIENCE_S,
        text=text,
    )


def _model_values(root: Value, keys: dict[str, Value]) -> list[Value]:
    if ("model" in keys) == ("models" in keys):
        both = "model" in keys
        value = keys["models"] if both else root
        raise value.error(
            f"the job has {'both model and models' if both else 'no model'}", "give `model:` or `models:`"
        )
    if "model" in keys:
        return [keys["model"]]
    if not keys["models"].items():
        raise keys["models"].error("models is an empty list", "give at least one model")
    return keys["models"].items()


def _model(value: Value, job: dict[str, Value], base: Path) -> ModelPart:
    keys = value.mapping(MODEL_KEYS)
    if "path" not in keys:
        raise value.error("the model has no path", "give `path:`, an .onnx file or a Paddle model's directory")
    path = keys["path"].path(base)
    stated = keys["format"].choice("format", MODEL_FORMATS) if "format" in keys else None
    files = models.find(keys["path"], path, stated)
    name_value = keys.get("name", keys["path"])
    name = keys["name"].text() if "name" in keys else path.resolve().stem
    if "/" in name or name in (".", "..") or not name.isprintable():
        raise name_value.error(f"{name!r} is no name for a model", "use a name without '/'")
    calibration, calibration_data = _section("calibration", CALIBRATION_KEYS, job, keys)
    evaluate, evaluate_data = _section("evaluate", judging.KEYS, job, keys)
    calibration_part = _calibration(calibration, calibration_data, base) if calibration else None
    evaluate_part = judging.evaluation(evaluate, evaluate_data, base) if evaluate else None
    targets = keys.get("targets", job.get("targets"))
    quantized = is_quantized(files)
    if quantized and calibration_part:
        todo = "give its FP32 model, or leave the calibration out"
        raise keys["path"].error(f"{path} is quantized already, and the job calibrates it", todo)
    named = keys.get("quantization", job.get("quantization"))
    calibrated = calibration_part.samples if calibration_part else ()
    quantization = quantizing.quantizations(named, files, calibrated, base)
    # A recipe reads its samples itself; all others become the model's input as its configuration says.
    fed = [part for part in (calibration_part, evaluate_part, quantization.training("distill")) if part]
    return ModelPart(
        name=name,
        files=files,
        input_shapes=_input_shapes(keys["input_shapes"]) if "input_shapes" in keys else (),
        preprocess=_preprocess(
            value, files, (calibration_data, evaluate_data), base, [sample for part in fed for sample in part.samples]
        ),
        calibration=calibration_part,
        targets=measuring.targets(targets, default_precisions(calibration_part is not None, quantization, quantized)),
        evaluate=evaluate_part,
        quantization=quantization,
        quantized=quantized,
    )


def default_precisions(calibrated: bool, quantization: QuantizationPart, quantized: bool) -> tuple[str, ...]:
    """What is measured where targets do not say: FP32 unless there is none, INT8 where there is one."""
    if quantized:
        return ("int8",)
    return ("fp32", "int8") if calibrated or quantization != quantizing.STATIC else ("fp32",)


def _section(
    name: str, known: tuple[str, ...], job: dict[str, Value], model: dict[str, Value]
) -> tuple[dict[str, Value], dict[str, Value]]:
    """The keys of a section and of its `data`: a model's own come before the job's; a path of its own means other
    data altogether, so that the job's list or limit does not cut it."""
    sections = [keys[name].mapping(known) for keys in (job, model) if name in keys]
    merged: dict[str, Value] = {}
    data: dict[str, Value] = {}
    for section in sections:
        merged = scales.merge(merged, section)
        if "data" in section:
            own = section["data"].mapping(samples.KEYS)
            data = own if "path" in own or "list" in own else data | own
    return merged, data


def _calibration(keys: dict[str, Value], data: dict[str, Value], base: Path) -> CalibrationPart:
    if "data" not in keys and "scales" not in keys:
        value = next(iter(keys.values()))
        raise value.error("the calibration has no data", "give `data: {path: DIRECTORY}`, or `scales: FILE`")
    percentile = keys["percentile"].number() if "percentile" in keys else DEFAULT_PERCENTILE
    if not 0 < percentile <= 100:
        raise keys["percentile"].error(f"percentile is {percentile:g}", "give a number above 0 and up to 100")
    named = keys.get("calibrator")
    calibrator = named.choice("calibrator", CALIBRATOR_NAMES) if named else DEFAULT_CALIBRATOR
    extremes_only = keys["extremes_only"].boolean() if "extremes_only" in keys else False
    if extremes_only and calibrator not in EXTREMES_CALIBRATORS:
        todo = f"leave it out, or write `calibrator: {'` or `calibrator: '.join(EXTREMES_CALIBRATORS)}`"
        raise keys["extremes_only"].error(f"calibrator {calibrator} needs more than extremes", todo)
    return CalibrationPart(
        samples=samples.find(keys["data"], data, base, None) if "data" in keys else (),
        scales=scales.find(keys, base),
        calibrator=calibrator,
        percentile=percentile,
        shards=measuring.shards(keys.get("shards")),
        bias_correction=keys["bias_correction"].boolean() if "bias_correction" in keys else True,
        exclude_below_db=keys["exclude_below_db"].number() if "exclude_below_db" in keys else None,
        ties=keys["ties"].boolean() if "ties" in keys else True,
        mixed=keys["mixed"].boolean() if "mixed" in keys else False,
        reuse=keys["reuse"].boolean() if "reuse" in keys else True,
        extremes_only=extremes_only,
    )


def _preprocess(
    model: Value, files: ModelFiles, sections: tuple[dict[str, Value], ...], base: Path, found: list[Found]
) -> Path | None:
    given = [data["preprocess"] for data in sections if "preprocess" in data]
    paths = [value.path(base) for value in given]
    for value, path in zip(given, paths, strict=True):
        if not path.is_file():
            todo = f"give one of {', '.join((*models.PICTURE_NAMES, *models.TEXT_NAMES))}"
            raise value.error(f"there is no preprocessing file {path}", todo, ErrorCode.PREPROCESS_INVALID)
    if len({path.resolve() for path in paths}) > 1:
        todo = "a model has one preprocessing: give the same file for calibration and evaluation"
        raise given[1].error("calibration and evaluation name different preprocessing files", todo)
    if paths:
        return paths[0]
    raw = [sample for sample in found if sample.path.suffix.lower() not in samples.TENSORS]
    if not raw:
        return None
    text = raw[0].path.suffix.lower() in samples.TEXTS
    names = models.TEXT_NAMES if text else models.PICTURE_NAMES
    beside = files.beside(names)
    if beside is None:
        todo = f"give `preprocess:` beside the data's path, or put {' or '.join(names)} beside the model"
        kind = "text" if text else "picture"
        what = f"{raw[0].path.name} is a {kind}, and nothing says how it becomes the model's input"
        raise model.error(what, todo, ErrorCode.PREPROCESS_INVALID)
    return beside


def _input_shapes(value: Value) -> tuple[InputShape, ...]:
    return tuple(
        InputShape(name, tuple(item.count(1) for item in dims.items())) for name, dims in value.mapping().items()
    )
