"""What a job file says of how INT8 comes about: quantizations, trainings, and models that others quantized.

Not for calibration: see `document`.
"""

import mmap
import re
from dataclasses import dataclass
from pathlib import Path

from quantfleet.jobfile import models, samples
from quantfleet.jobfile.models import ModelFiles
from quantfleet.jobfile.samples import Found
from quantfleet.jobfile.tree import Value
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.spec import QUANTIZATIONS, TRAINED

DEFAULT_BATCH_SIZE, DEFAULT_SAVE_INTERVAL, DEFAULT_LOG_INTERVAL = 4, 1000, 10
GIVEN_KEYS = ("method", "path", "format")
DISTILL_KEYS = ("method", "config", "data", "batch_size", "do_eval", "resume_model", "num_workers")
QAT_KEYS = (
    "method",
    "package",
    "config",
    "model_path",
    "data",
    "iters",
    "batch_size",
    "learning_rate",
    "save_interval",
    "do_eval",
    "num_workers",
    "log_iters",
    "resume_model",
    "with_softmax",
    "without_argmax",
)
_KEYS = {"qat": QAT_KEYS, "distill": DISTILL_KEYS, "given": GIVEN_KEYS, "static": ("method",), "dynamic": ("method",)}
# A protocol buffer has before a text the number of its field and its length. So what is found is an operator's type
# (NodeProto.op_type is field 4, OpDesc.type field 3) or an attribute's name, and no entry of the version table that
# every Paddle program has.
_QUANTIZED_OPERATORS = {
    ".onnx": rb"\x22.(DequantizeLinear|QLinear(Conv|MatMul)|QGemm|(Conv|MatMul)Integer|DynamicQuantizeLinear)",
    ".pdmodel": rb"\x1a.(dequantize_linear|fake_(channel_wise_)?(de)?quantize_)|\x0a.quantize_weight_bits",
    ".json": rb"dequantize_linear|fake_(channel_wise_)?(de)?quantize_",
}


@dataclass(frozen=True)
class TrainingPart:
    """A training as `TrainingSpec` has it, with its files on this disk."""

    method: str
    package: str
    config: Path | None
    weights: Path | None
    resume: Path | None
    samples: tuple[Found, ...]
    iterations: int
    batch_size: int | None
    learning_rate: float | None
    save_interval: int
    validate: bool
    workers: int
    log_interval: int
    with_softmax: bool
    without_argmax: bool


@dataclass(frozen=True)
class QuantizationPart:
    """The quantizations of a model by name, and what those of them need that a name does not say."""

    names: tuple[str, ...]
    trainings: tuple[TrainingPart, ...]
    given: ModelFiles | None


STATIC = QuantizationPart(("static",), (), None)


def is_quantized(files: ModelFiles) -> bool:
    """Whether a model's graph has quantized operators, by their names in its file; no engine is imported for it."""
    graph = files.files[0]
    pattern = _QUANTIZED_OPERATORS.get(graph.suffix)
    if pattern is None or not graph.stat().st_size:
        return False
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return re.search(pattern, content, re.DOTALL) is not None


def quantizations(value: Value | None, files: ModelFiles, data: tuple[Found, ...], base: Path) -> QuantizationPart:
    """Read the list `quantization`; `data` are the calibration samples, from which a distillation learns by default."""
    if value is None:
        return QuantizationPart(("given",), (), None) if is_quantized(files) else STATIC
    names: list[str] = []
    trainings: list[TrainingPart] = []
    given: ModelFiles | None = None
    for item in value.items():
        name, keys = _method(item)
        if name in names:
            raise item.error(f"{name!r} stands in this list a second time", "keep one of them")
        names.append(name)
        if name in TRAINED:
            trainings.append(_training(item, name, keys, data, base))
        elif name == "given" and not (is_quantized(files) and len(keys) <= 1):
            given = _given(item, keys, base)
    return QuantizationPart(tuple(names), tuple(trainings), given)


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
    found = models.find(keys["path"], path, keys["format"].text() if "format" in keys else None)
    if not is_quantized(found):
        what = f"{path} has no quantized operator"
        raise keys["path"].error(what, "give the quantized model, not its FP32 form", ErrorCode.MODEL_UNSUPPORTED)
    return found


def _training(
    item: Value, method: str, keys: dict[str, Value], calibration: tuple[Found, ...], base: Path
) -> TrainingPart:
    def file(key: str) -> Path | None:
        if key not in keys:
            return None
        path = keys[key].path(base)
        if not path.is_file():
            raise keys[key].error(f"there is no file {path}", "give the path of a file", ErrorCode.DATA_NOT_FOUND)
        return path

    def count(key: str, least: int, otherwise: int) -> int:
        return keys[key].count(least) if key in keys else otherwise

    def flag(key: str) -> bool:
        return keys[key].boolean() if key in keys else False

    needed = ("package", "model_path", "data", "iters") if method == "qat" else ("config",)
    for key in needed:
        if key not in keys:
            raise item.error(f"quantization {method} has no {key}", f"write `{key}:`; the guide has an example")
    if "data" in keys:
        source = keys["data"].mapping(samples.KEYS)
        # A distillation learns from the teacher and needs no truth.
        found = samples.find(keys["data"], source, base, samples.taught(source, base) if method == "qat" else None)
    elif calibration:
        found = calibration
    else:
        raise item.error(f"quantization {method} has no data", "give it `data:`, or the job calibration data")
    batch_size = count("batch_size", 1, DEFAULT_BATCH_SIZE)
    if method == "distill":
        schedule = _act_schedule(
            keys["config"], file("config"), len(found), batch_size if "batch_size" in keys else None
        )
    else:
        save, log = count("save_interval", 1, DEFAULT_SAVE_INTERVAL), count("log_iters", 1, DEFAULT_LOG_INTERVAL)
        schedule = _Schedule(keys["iters"].count(1), batch_size, save, log)
    return TrainingPart(
        method=method,
        package=keys["package"].text() if "package" in keys else "",
        config=file("config"),
        weights=file("model_path"),
        resume=file("resume_model"),
        samples=found,
        iterations=schedule.iterations,
        batch_size=schedule.batch_size,
        learning_rate=keys["learning_rate"].number() if "learning_rate" in keys else None,
        save_interval=schedule.save_interval,
        validate=flag("do_eval"),
        workers=count("num_workers", 0, 0),
        log_interval=schedule.log_interval,
        with_softmax=flag("with_softmax"),
        without_argmax=flag("without_argmax"),
    )


@dataclass(frozen=True)
class _Schedule:
    iterations: int
    batch_size: int | None
    save_interval: int
    log_interval: int


def _act_schedule(value: Value, path: Path | None, count: int, batch_size: int | None) -> _Schedule:
    """What the file of PaddleSlim's auto-compression says of its length: an interval ends where it would evaluate."""
    from quantfleet_worker.training.act_config import parse

    assert path is not None
    try:
        config = parse(path.read_text(encoding="utf-8"))
    except QuantfleetError as error:
        raise value.error(f"{path}: {error.what}", error.todo, error.code) from error
    size = batch_size or config.batch_size or DEFAULT_BATCH_SIZE
    iterations = config.iterations(count, size)
    if not iterations:
        what = f"{count} samples are less than one batch of {size}"
        raise value.error(what, "give more samples, or a smaller batch_size", ErrorCode.DATA_EMPTY)
    return _Schedule(iterations, size, config.eval_iter, config.logging_iter)
