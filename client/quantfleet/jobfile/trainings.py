"""What a job file says of a training: what is trained on what, and for how long. Not for other quantizations."""

from dataclasses import dataclass
from pathlib import Path

from quantfleet.jobfile import samples
from quantfleet.jobfile.samples import Found
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.yaml_tree import Value

DEFAULT_BATCH_SIZE, DEFAULT_SAVE_INTERVAL, DEFAULT_LOG_INTERVAL = 4, 1000, 10
DATA_KEYS = tuple(key for key in samples.KEYS if key != "preprocess")
"""A distillation feeds its samples as the model's preprocessing says, and a recipe decodes them itself."""
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


def training(
    item: Value, method: str, keys: dict[str, Value], calibration: tuple[Found, ...], base: Path
) -> TrainingPart:
    """The training by `method` that `keys` describe; `calibration` are the samples of a distillation without its own.

    Raises QuantfleetError at the place of what is wrong: JOB_INVALID, DATA_NOT_FOUND for a file, DATA_EMPTY for less
    than a batch of samples.
    """

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
        source = keys["data"].mapping(DATA_KEYS)
        if method == "qat":
            found = samples.find_taught(keys["data"], source, base)
        else:  # it learns from the network before it and needs no truth
            found = samples.find(keys["data"], source, base, None)
    elif calibration:
        found = calibration
    else:
        raise item.error(f"quantization {method} has no data", "give it `data:`, or the job calibration data")
    config = file("config")
    if method == "distill":
        schedule = _act_schedule(keys, config, len(found))
    else:
        schedule = _Schedule(
            iterations=keys["iters"].count(1),
            batch_size=keys["batch_size"].count(1) if "batch_size" in keys else None,
            save_interval=count("save_interval", 1, DEFAULT_SAVE_INTERVAL),
            log_interval=count("log_iters", 1, DEFAULT_LOG_INTERVAL),
        )
    batch_size = schedule.batch_size or 1  # without one, the recipe on the node has it
    if len(found) < batch_size:
        what = f"{len(found)} samples are less than one batch of {batch_size}"
        place = keys.get("batch_size", keys.get("data", item))
        raise place.error(what, "give more samples, or a smaller batch_size", ErrorCode.DATA_EMPTY)
    return TrainingPart(
        method=method,
        package=keys["package"].text() if "package" in keys else "",
        config=config,
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


def _act_schedule(keys: dict[str, Value], path: Path | None, count: int) -> _Schedule:
    """What the file of PaddleSlim's auto-compression says of its length: an interval ends where it would evaluate."""
    from quantfleet_worker.training.act_config import parse

    assert path is not None
    try:
        config = parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        what = f"{path}: byte {error.start} is not UTF-8"
        raise keys["config"].error(what, "save the file as UTF-8") from error
    except QuantfleetError as error:
        raise keys["config"].error(f"{path}: {error.what}", error.todo, error.code) from error
    size = keys["batch_size"].count(1) if "batch_size" in keys else config.batch_size or DEFAULT_BATCH_SIZE
    return _Schedule(config.iterations(count, size), size, config.eval_iter, config.logging_iter)
