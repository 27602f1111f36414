"""`quantfleet run`, `calibrate` and `benchmark`: a job on this machine, with a fleet that lives as long as the job."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import yaml

from quantfleet.cli import output
from quantfleet.cli.options import AllowCode, Interpreters, Json, Phones, Workers
from quantfleet.cli.showing import show_delivered
from quantfleet.cli.worker import require_extras
from quantfleet.client import Client
from quantfleet.following import default_directory, deliver, exit_code
from quantfleet.jobfile import document, fastdeploy, measuring
from quantfleet.jobfile.document import JobDocument
from quantfleet.jobfile.prepare import prepare
from quantfleet.progress import display
from quantfleet_domain.calibration.calibrators import CALIBRATOR_NAMES, DEFAULT_CALIBRATOR
from quantfleet_domain.errors import ErrorCode, QuantfleetError

T = TypeVar("T")
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Where to write. Default: quantfleet-report/NAME.")
]
KeepState = Annotated[bool, typer.Option("--keep-state", help="Keep the coordinator's and workers' state and logs.")]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="An .onnx file, or a Paddle model's directory.")]
Measurable = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="An .onnx file, a Paddle model's directory, or an .nb file for phones."),
]
ListFile = Annotated[
    Path | None, typer.Option("--list", metavar="FILE", help="Lines `path` or `path label` below the data's directory.")
]
Preprocess = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The model's preprocessing, e.g. inference_cls.yaml. Default: the one beside the model."
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Take so many samples at most.")]
CALIBRATOR_HELP = f"How thresholds are chosen: {', '.join(CALIBRATOR_NAMES)}."
CalibratorName = Annotated[str, typer.Option("--calibrator", help=CALIBRATOR_HELP)]
Percentile = Annotated[float | None, typer.Option(help="Mass that the percentile calibrator covers, percent.")]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--input-shape", metavar="NAME=1,3,224,224", help="Shape of an input whose own is not fixed."),
]


def add_to(app: typer.Typer) -> None:
    """Add the three commands to the application."""
    for command in (run, calibrate, benchmark):
        app.command()(command)


def run(
    job: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")],
    out: Out = None,
    workers: Workers = None,
    keep_state: KeepState = False,
    allow_code: AllowCode = None,
    interpreter: Interpreters = None,
    phones: Phones = None,
    as_json: Json = False,
) -> None:
    """Run a job on this machine: coordinator, TLS, Ray and workers start for it and are gone after it."""
    options = _repeated("--allow-code", allow_code) + _repeated("--interpreter", interpreter)
    _report(document.read(job), out, _Fleet(workers, keep_state, options, phones), as_json)


def calibrate(
    model: Model,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Directory of pictures or .npy files.")],
    out: Annotated[Path, typer.Option("--out", metavar="SCALES.json", help="The scale table to write.")],
    list_file: ListFile = None,
    preprocess: Preprocess = None,
    calibrator: CalibratorName = DEFAULT_CALIBRATOR,
    percentile: Percentile = None,
    shards: Annotated[int | None, typer.Option(min=1, help="Shards; the table does not depend on it.")] = None,
    limit: Limit = None,
    input_shape: Shapes = None,
    workers: Workers = None,
    keep_state: KeepState = False,
    as_json: Json = False,
) -> None:
    """Calibrate a model on this machine and write its scale table; nothing is measured."""
    section = _without_none(
        data=_data(data, list_file, preprocess, limit), calibrator=calibrator, percentile=percentile, shards=shards
    )
    job = model_job("calibrate", model, input_shape, calibration=section, targets=[], benchmark={"modes": []})

    async def finish(client: Client, identifier: str) -> dict[str, object]:
        report = (await client.report(identifier)).report
        if report.job.state != "succeeded":
            error = report.job.error
            raise QuantfleetError(
                ErrorCode.JOB_FAILED,
                error.what if error else f"the calibration {report.job.state}",
                error.todo if error else "run it again with --keep-state and read the logs",
            )
        await client.fetch_file(identifier, f"{job.models[0].name}/scales.json", out)
        found = report.calibration[job.models[0].name]
        return {
            "scales": str(out),
            "sha256": found.scales_sha256,
            "calibrator": found.calibrator,
            "chosen": found.chosen,
            "samples": found.samples,
            "seconds": found.seconds,
        }

    made = _embedded(job, finish, _Fleet(workers, keep_state))
    if as_json:
        output.emit(made)
    else:
        name = f"{made['calibrator']}: {made['chosen']}" if made["chosen"] else made["calibrator"]
        output.say(f"{out}: {name} over {made['samples']} samples, sha256 {made['sha256']}")


def benchmark(
    model: Measurable,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Samples: to calibrate INT8 with, and to measure end to end.")
    ] = None,
    list_file: ListFile = None,
    preprocess: Preprocess = None,
    scales: Annotated[
        Path | None,
        typer.Option(metavar="SCALES.json", help="A scale table for INT8; --data then serves bias correction alone."),
    ] = None,
    calibrator: Annotated[
        str | None, typer.Option("--calibrator", help=f"{CALIBRATOR_HELP} Default: {DEFAULT_CALIBRATOR}.")
    ] = None,
    percentile: Percentile = None,
    limit: Limit = None,
    engine: Annotated[list[str] | None, typer.Option(help="Engine; may be repeated. Default: all.")] = None,
    threads: Annotated[
        str | None, typer.Option(metavar="1,2", help="Thread counts to measure with. Default: 1.")
    ] = None,
    batch_sizes: Annotated[str, typer.Option(metavar="1,8", help="Batch sizes to measure with.")] = "1",
    repeat: Annotated[int | None, typer.Option(min=1, help=f"Timed runs. Default: {measuring.DEFAULT_REPEAT}.")] = None,
    warmup: Annotated[
        int | None, typer.Option(min=0, help=f"Untimed runs before them. Default: {measuring.DEFAULT_WARMUP}.")
    ] = None,
    fastdeploy_config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A configuration of FastDeploy's benchmark; options here come before it."),
    ] = None,
    input_shape: Shapes = None,
    out: Out = None,
    workers: Workers = None,
    keep_state: KeepState = False,
    interpreter: Interpreters = None,
    phones: Phones = None,
    as_json: Json = False,
) -> None:
    """Measure a model on this machine: FP32, and INT8 where --data gives samples to calibrate with, or --scales."""
    config = fastdeploy.FastDeployConfig(engines=tuple(engine or ()))
    if fastdeploy_config:
        config = fastdeploy.read(fastdeploy_config, config.engines)
        for note in config.notes:
            typer.echo(f"note: {fastdeploy_config}: {note}", err=True)
    counts = tuple(_counts("--threads", threads)) if threads else ()
    config = config.under(threads=counts, warmup=warmup, repeat=repeat)
    modes, engines = [config.mode] if config.mode else None, list(config.engines) or None
    protocol = _without_none(warmup=config.warmup, repeat=config.repeat, modes=modes, memory=config.memory or None)
    batches = _counts("--batch-sizes", batch_sizes)
    target = _without_none(
        pool=config.pool or None, threads=list(config.threads) or [1], batch_sizes=batches, engines=engines
    )
    calibrated = bool(data or list_file or scales)
    if config.fp16:
        target["precisions"] = ["fp32", "fp16", *(["int8", "int8+fp16"] if calibrated else [])]
    sections: dict[str, Any] = {"benchmark": protocol, "targets": [target]}
    if calibrated:
        sections["calibration"] = _without_none(
            data=_data(data, list_file, preprocess, limit) or None,
            scales=str(scales.absolute()) if scales else None,
            calibrator=calibrator,
            percentile=percentile,
        )
    if config.mode == "end2end" and not (data or list_file):
        what = f"{fastdeploy_config}: profile_mode end2end is measured with samples"
        raise QuantfleetError(ErrorCode.USAGE, what, "give --data DIRECTORY")
    fleet = _Fleet(workers, keep_state, _repeated("--interpreter", interpreter), phones)
    _report(model_job("benchmark", model, input_shape, **sections), out, fleet, as_json)


@dataclass(frozen=True)
class _Fleet:
    """The fleet that lives as long as the job; `options` are those of its workers."""

    workers: int | None
    keep_state: bool
    options: tuple[str, ...] = ()
    phones: Path | None = None


def _repeated(option: str, values: list[str] | None) -> tuple[str, ...]:
    return tuple(word for value in values or () for word in (option, value))


def _report(job: JobDocument, out: Path | None, fleet: _Fleet, as_json: bool) -> None:
    directory = out or default_directory(job.name)
    if directory.exists() and not directory.is_dir():
        raise QuantfleetError(ErrorCode.USAGE, f"{directory} is a file", "give a directory as --out")
    delivered = _embedded(job, lambda client, job: deliver(client, job, directory), fleet)
    show_delivered(delivered, as_json)
    raise typer.Exit(exit_code(delivered.report))


def _embedded(job: JobDocument, finish: Callable[[Client, str], Awaitable[T]], fleet: _Fleet) -> T:
    from quantfleet.embedded import run_job

    require_extras()
    if fleet.phones:
        from quantfleet_worker.phones import fleet_file

        fleet_file.read(fleet.phones)  # a mistake in it is told before anything is started
    with display() as shown:
        prepared = prepare(job, lambda done, total: shown.stage("hashing, files", done, total))
        run = run_job(
            prepared,
            finish,
            shown,
            fleet.workers,
            fleet.keep_state,
            fleet.options,
            fleet.phones and fleet.phones.absolute(),
        )
        return asyncio.run(run)


def model_job(what: str, model: Path, shapes: list[str] | None, **sections: Any) -> JobDocument:
    """The job that the options mean, written as a job file would be: the report shows it, and it can be run again."""
    part: dict[str, Any] = {"path": str(model.absolute())}
    if shapes:
        part["input_shapes"] = dict(_shape(text) for text in shapes)
    name = f"{model.resolve().stem}-{what}"
    text = {"apiVersion": document.API_VERSION, "kind": "Job", "name": name, "model": part, **sections}
    return document.read_text(yaml.safe_dump(text, sort_keys=False, allow_unicode=True), "", Path.cwd())


def _data(path: Path | None, list_file: Path | None, preprocess: Path | None, limit: int | None) -> dict[str, Any]:
    paths = {"path": path, "list": list_file, "preprocess": preprocess}
    return {key: str(value.absolute()) for key, value in paths.items() if value} | _without_none(limit=limit)


def _without_none(**values: object) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _counts(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        what = f"{option} {text!r} is no list of counts"
        raise QuantfleetError(ErrorCode.USAGE, what, "write e.g. 1 or 1,2,4") from None


def _shape(text: str) -> tuple[str, list[int]]:
    name, equals, dims = text.rpartition("=")
    if not equals or not name:
        what = f"--input-shape {text!r} names no input"
        raise QuantfleetError(ErrorCode.USAGE, what, "write e.g. x=1,3,224,224")
    return name, _counts("--input-shape", dims)
