"""Whether a job makes sense, before anything is done for it. Not for where in a file a key stands."""

import difflib
from collections.abc import Iterable, Sequence

from quantfleet_domain.calibration.calibrators import CALIBRATOR_NAMES, EXTREMES_CALIBRATORS
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.offers import ENGINES
from quantfleet_domain.hardware.precisions import PRECISIONS
from quantfleet_domain.jobs.spec import (
    METRICS,
    METRICS_OF,
    MODEL_FORMATS,
    MODES,
    QUANTIZATIONS,
    TRAINED,
    EvaluateSpec,
    JobSpec,
    ModelSpec,
    OutputKind,
    TrainingSpec,
    kind_of,
)
from quantfleet_domain.reporting import gates


def validate(spec: JobSpec) -> None:
    """Raises QuantfleetError(JOB_INVALID) naming the first thing that cannot be."""
    _require(is_readable(spec.name), f"{spec.name!r} is no name for a job", "leave out its control characters")
    names = [model.name for model in spec.models]
    _require(bool(names), "the job names no model", "give it a model")
    for name in names:
        _require(names.count(name) == 1, f"two models are called {name!r}", "give each model its own name")
        _require(
            bool(name) and "/" not in name and name not in (".", "..") and is_readable(name),
            f"{name!r} is no name for a model",
            "use a name without '/' and control characters",
        )
    for model in spec.models:
        _validate_model(model)
    _known("mode", spec.benchmark.modes, MODES)
    _require(spec.benchmark.warmup >= 0, "benchmark.warmup is negative", "give 0 or more")
    _require(spec.benchmark.repeat >= 1, "benchmark.repeat is less than 1", "give 1 or more; 1000 is the custom")
    _require(spec.patience_s >= 0, "patience is negative", "give a time")
    for gate in spec.gates:
        gates.parse(gate)


def _validate_model(model: ModelSpec) -> None:
    where = f"model {model.name}"
    _known("format", [model.format], MODEL_FORMATS)
    _require(bool(model.files), f"{where} has no files", "give it a path")
    for ref in (*model.files, *([model.preprocess] if model.preprocess else [])):
        _require(is_inside(ref.name), f"{where}: {ref.name!r} is no file below the model", "use a relative path")
    if model.calibration:
        data = model.calibration.data
        if not model.calibration.scales:
            _known("calibrator", [model.calibration.calibrator], CALIBRATOR_NAMES)
            _require(data is not None, f"{where} has neither calibration samples nor scales", "give it some")
        _require(not data or data.samples > 0, f"{where} has no calibration samples", "give it some")
        _require(
            data is not None or model.calibration.exclude_below_db is None,
            f"{where}: what a layer loses is measured on samples, and it has none",
            "give it some, or leave out exclude_below_db",
        )
        _require(0 < model.calibration.percentile <= 100, f"{where}: percentile is not in (0, 100]", "give e.g. 99.99")
        _require(model.calibration.shards >= 0, f"{where}: shards is negative", "give a count, or auto")
        _require(
            not model.calibration.extremes_only or model.calibration.calibrator in EXTREMES_CALIBRATORS,
            f"{where}: calibrator {model.calibration.calibrator} needs more than extremes",
            f"leave out extremes_only, or choose {' or '.join(EXTREMES_CALIBRATORS)}",
        )
    if model.evaluate:
        _require(model.evaluate.data.samples > 0, f"{where} has no evaluation samples", "give it some")
        _require(model.evaluate.shards >= 0, f"{where}: shards is negative", "give a count, or auto")
        _validate_metrics(where, model.evaluate)
    _validate_quantizations(where, model)
    for target in model.targets:
        _require(bool(target.precisions), f"{where}: a target has no precisions", "name its precisions")
        _known("engine", target.engines, ENGINES)
        _known("precision", target.precisions, PRECISIONS)
        if target.form:
            _require(bool(target.engines), f"{where}: a target names a form and no engine", "name its engines")
        for engine in target.engines if target.form else ():
            forms = ENGINES[engine].forms
            what = f"{where}: {engine} takes no form {target.form!r}"
            _require(target.form in forms, what, f"it takes {', '.join(forms)}" if forms else "leave the form out")
        for what, values in (("threads", target.threads), ("batch_sizes", target.batch_sizes)):
            _require(bool(values) and min(values) >= 1, f"{where}: {what} must be counts from 1 on", "give e.g. [1]")
        lists: tuple[Sequence[object], ...] = (target.engines, target.precisions, target.threads, target.batch_sizes)
        for listed in lists:
            twice = next((value for value in listed if listed.count(value) > 1), None)
            _require(twice is None, f"{where}: a target lists {twice!r} twice", "list it once")


def _validate_quantizations(where: str, model: ModelSpec) -> None:
    _known("quantization", model.quantizations, QUANTIZATIONS)
    twice = next((name for name in model.quantizations if model.quantizations.count(name) > 1), None)
    _require(twice is None, f"{where} lists quantization {twice!r} twice", "list it once")
    if model.quantized:
        made_here = [name for name in model.quantizations if name not in ("static", "given")]
        _require(not made_here, f"{where} is quantized already, and the job quantizes it", "give its FP32 model")
        _require(
            not model.calibration, f"{where} is quantized already, and the job calibrates it", "give its FP32 model"
        )
    _require(
        model.quantized or model.format != "paddle-lite", f"{where} is an .nb file in float", "give the Paddle model"
    )
    if not model.quantized and "given" in model.quantizations:
        _require(model.given is not None, f"{where} has no given quantized model", "name its path")
    _require(
        "native" not in model.quantizations or model.calibration is None or model.calibration.data is not None,
        f"{where}: an engine's own calibrator needs samples, and the calibration brings none",
        "give `calibration.data`",
    )
    for name in TRAINED:
        trained = [training.method for training in model.trainings].count(name)
        wanted = int(name in model.quantizations)
        _require(trained == wanted, f"{where} has {trained} trainings by {name}, not {wanted}", "describe it once")
    for training in model.trainings:
        _validate_training(where, model, training)


def _validate_training(where: str, model: ModelSpec, training: TrainingSpec) -> None:
    at = f"{where}, {training.method}"
    _require(model.format == "paddle", f"{at}: only Paddle models are trained", "give the Paddle model")
    _require(training.data.samples > 0, f"{at} has no samples", "give it some")
    for what, count in (
        ("iterations", training.iterations),
        ("batch_size", 1 if training.batch_size is None else training.batch_size),
        ("save_interval", training.save_interval),
        ("log_interval", training.log_interval),
    ):
        _require(count >= 1, f"{at}: {what} is {count}", "give a count from 1 on")
    _require(training.workers >= 0, f"{at}: num_workers is negative", "give 0 or more")
    _require(
        training.learning_rate is None or training.learning_rate > 0,
        f"{at}: the learning rate is not positive",
        "give e.g. 0.001",
    )
    _require(
        bool(training.package) == (training.method == "qat"), f"{at}: a qat, and only that, names a package", "name it"
    )
    _require(
        not training.validate or model.evaluate is not None,
        f"{at} is to keep the best, and the job evaluates nothing",
        "give the job an `evaluate` section",
    )


def _validate_metrics(where: str, evaluate: EvaluateSpec) -> None:
    _known("metric", evaluate.metrics, METRICS)
    _require(bool(evaluate.metrics), f"{where} has no metrics", "name some, or leave the evaluation out")
    kind = kind_of(evaluate.metrics)
    other = next((metric for metric in evaluate.metrics if metric not in METRICS_OF[kind]), None)
    what = f"{where}: {other} judges something else than {evaluate.metrics[0]}"
    _require(other is None, what, f"one evaluation has metrics of one kind: {', '.join(METRICS_OF[kind])}")
    if kind is OutputKind.BOXES:
        has = evaluate.data.annotations is not None
        _require(has, f"{where}: {evaluate.metrics[0]} needs annotations", "give a COCO file")


def is_inside(name: str) -> bool:
    """Whether a file's name stays in the directory that it is put in, on every system."""
    parts = name.replace("\\", "/").split("/")
    return is_readable(name) and not {"", ".", ".."} & set(parts) and ":" not in parts[0]


def is_readable(text: str) -> bool:
    """Whether no control character is in it: they spoil terminals, and not every store holds U+0000."""
    return not any(character < " " or character == "\x7f" for character in text)


def _known(what: str, values: Sequence[str], known: Iterable[str]) -> None:
    known = list(known)
    for value in values:
        near = difflib.get_close_matches(value, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        _require(value in known, f"no {what} is called {value!r}", f"{hint}there are {', '.join(known)}")


def _require(condition: bool, what: str, todo: str) -> None:
    if not condition:
        raise QuantfleetError(ErrorCode.JOB_INVALID, what, todo)
