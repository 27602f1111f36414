"""`quantfleet scales`: look at a scale table, compare two, take one over from another tool or hand one to it."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from quantfleet.cli import output
from quantfleet.cli.local import Shapes, model_job
from quantfleet.cli.options import Json
from quantfleet.jobfile.prepare import prepare
from quantfleet.jobfile.scales import read
from quantfleet.outputs import write_atomically
from quantfleet_domain.calibration.diff import diff as tables_diff
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.calibration.tensorrt_cache import ENGINE, KIND, CalibrationCache, thresholds_of
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.spec import model_sha256
from quantfleet_domain.reporting.codec import to_value

app = typer.Typer()
Table = Annotated[Path, typer.Argument(metavar="SCALES.json", help="A scale table.")]


class ExportForm(StrEnum):
    """What a scale table can be exported as."""

    TENSORRT_CACHE = "tensorrt-cache"
    ONNX = "onnx"
    PADDLE = "paddle"
    PADDLE_LITE = "paddle-lite"


class TensorNames(StrEnum):
    """By which name an export calls a tensor: that in the reference graph, or that in the submitted model."""

    REFERENCE = "reference"
    NATIVE = "native"


@app.command()
def show(path: Table, as_json: Json = False) -> None:
    """Show the clip range of every activation, and the largest weight of every weight tensor."""
    table = read(path)
    if as_json:
        output.emit(to_value(table))
        return
    for name, value in to_value(table.header).items():
        output.say(f"{name}: {value}")
    output.say(f"sha256: {table.sha256}\n")
    activations = [
        (row.tensor, f"{row.lo:.6g}", f"{row.hi:.6g}", row.calibrator, row.tied_to or "-") for row in table.activations
    ]
    output.table(("ACTIVATION", "LO", "HI", "CALIBRATOR", "TIED TO"), activations, "no activations")
    output.say("")
    weights = [(row.tensor, row.axis, len(row.absmax), f"{max(row.absmax):.6g}") for row in table.weights]
    output.table(("WEIGHT", "AXIS", "CHANNELS", "LARGEST"), weights, "no weights")


@app.command()
def diff(
    a: Annotated[Path, typer.Argument(metavar="A.json", help="The scale table before.")],
    b: Annotated[Path, typer.Argument(metavar="B.json", help="The scale table after.")],
    as_json: Json = False,
) -> None:
    """Show what differs from A to B, the largest moves first. The exit code is 0 where they say the same, else 1."""
    found = tables_diff(read(a), read(b))
    if as_json:
        output.emit(to_value(found))
    elif found.empty:
        output.say("the tables say the same")
    else:
        for change in found.header:
            output.say(f"{change.field}: {change.before} -> {change.after}")
        for side, names in (
            (a, (*found.activations_only_in_a, *found.weights_only_in_a)),
            (b, (*found.activations_only_in_b, *found.weights_only_in_b)),
        ):
            for name in names:
                output.say(f"{name}: only in {side}")
        rows = [
            (c.tensor, f"[{c.before.lo:.6g}, {c.before.hi:.6g}]", f"[{c.after.lo:.6g}, {c.after.hi:.6g}]", c.relative)
            for c in sorted(found.activations_changed, key=lambda change: -change.relative)
        ]
        shown = [(tensor, before, after, f"{relative:.2%}") for tensor, before, after, relative in rows]
        output.table(("ACTIVATION", "BEFORE", "AFTER", "MOVED"), shown, "no activation differs")
        for weight in found.weights_changed:
            moved = "another shape" if weight.relative is None else f"{weight.relative:.2%}"
            output.say(f"weight {weight.tensor}: {moved}")
    raise typer.Exit(0 if found.empty else 1)


@app.command("import")
def import_table(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A TensorRT calibration cache, a QDQ .onnx file, or a quantized Paddle model's directory.",
        ),
    ],
    model: Annotated[Path, typer.Option("--model", metavar="MODEL", help="The FP32 model that the ranges are for.")],
    out: Annotated[Path, typer.Option("--out", metavar="SCALES.json", help="The scale table to write.")],
    input_shape: Shapes = None,
    as_json: Json = False,
) -> None:
    """Make a scale table of ranges that another tool found; weights are the FP32 model's. Needs no fleet."""
    prepared = prepare(model_job("import", model, input_shape, targets=[], benchmark={"modes": []}))
    (spec,) = prepared.spec.models
    _require_readers(spec.format, source)
    first = prepared.files[spec.files[0].digest]
    assert isinstance(first, Path)  # bytes are manifests, and this job has no samples
    with _libraries_on_standard_error():
        from quantfleet_worker.models.scale_import import import_scales

        table = import_scales(
            source,
            first if spec.format == "onnx" else first.parent,
            spec.format,
            {shape.name: shape.dims for shape in spec.input_shapes},
            model_sha256(spec.files),
        )
    write_atomically(out, table.to_json())
    if as_json:
        counts = {"activations": len(table.activations), "weights": len(table.weights)}
        output.emit({"scales": str(out), "sha256": table.sha256, **counts})
    else:
        output.say(f"{out}: {len(table.activations)} ranges, {len(table.weights)} weights, sha256 {table.sha256}")


@app.command()
def export(
    path: Table,
    form: Annotated[ExportForm, typer.Option("--form", help="What to write.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file (for paddle the directory) to write.")],
    model: Annotated[
        Path | None, typer.Option("--model", metavar="MODEL", help="The FP32 model of the table; caches want none.")
    ] = None,
    int8: Annotated[
        str | None,
        typer.Option("--int8", metavar="FORM", help="The INT8 form of that model. Default: u8s8 or s8-symmetric."),
    ] = None,
    opt_interpreter: Annotated[
        Path | None, typer.Option(metavar="PYTHON", help="For paddle-lite: a Python that has paddlelite.")
    ] = None,
    input_shape: Shapes = None,
    names: Annotated[TensorNames, typer.Option("--names", help="Whose names tensors get.")] = TensorNames.REFERENCE,
    tensorrt_version: Annotated[
        str | None,
        typer.Option(metavar="8401", help="The cache's version. Default: that of the cache the table came from."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a table for another tool: a TensorRT calibration cache (symmetric int8 scales), or the INT8 model."""
    table = read(path)
    if form is not ExportForm.TENSORRT_CACHE:
        if form is ExportForm.PADDLE_LITE and opt_interpreter is None:
            todo = "name a Python that has paddlelite: --opt-interpreter PYTHON (docs/guide/hardware.md)"
            raise QuantfleetError(ErrorCode.USAGE, "--form paddle-lite is written by Paddle Lite's opt", todo)
        _export_model(table, form, model, int8, input_shape, out, str(opt_interpreter))
        if as_json:
            output.emit({"file": str(out), "form": form, "tensors": len(table.activations)})
        else:
            output.say(f"{out}: {form}, {len(table.activations)} tensors")
        return
    version, kind = _cache_head(path, table, tensorrt_version)
    cache = CalibrationCache.of_thresholds(version, kind, thresholds_of(table, native=names is TensorNames.NATIVE))
    write_atomically(out, cache.to_text())
    if as_json:
        output.emit({"file": str(out), "form": form, "tensors": len(cache.scales)})
    else:
        output.say(f"{out}: {form}, {len(cache.scales)} tensors")


def _export_model(
    table: ScaleTable,
    form: ExportForm,
    model: Path | None,
    int8: str | None,
    shapes: list[str] | None,
    out: Path,
    opt_interpreter: str,
) -> None:
    if model is None:
        what = f"--form {form} writes the INT8 form of a model, and none is named"
        raise QuantfleetError(ErrorCode.USAGE, what, "give the table's FP32 model: --model MODEL")
    prepared = prepare(model_job("export", model, shapes, targets=[], benchmark={"modes": []}))
    (spec,) = prepared.spec.models
    if form is not ExportForm.ONNX and spec.format != "paddle":
        what = f"{model} is an {spec.format} model, and --form {form} writes a Paddle one"
        raise QuantfleetError(ErrorCode.USAGE, what, "write --form onnx, or give the Paddle model of this table")
    _require_readers(spec.format, model)
    table.require_model(model_sha256(spec.files), str(model))
    first = prepared.files[spec.files[0].digest]
    assert isinstance(first, Path)  # bytes are manifests, and this job has no samples
    with _libraries_on_standard_error():
        from quantfleet_worker.models import scale_export
        from quantfleet_worker.phones.export import export_nb
        from quantfleet_worker.quantizers import paddle_lite

        known = {
            ExportForm.ONNX: scale_export.ONNX_FORMS,
            ExportForm.PADDLE: scale_export.PADDLE_FORMS,
            ExportForm.PADDLE_LITE: (paddle_lite.FORM,),
        }[form]
        if int8 is not None and int8 not in known:
            what = f"--int8 {int8!r} is no form of {form}"
            raise QuantfleetError(ErrorCode.USAGE, what, f"choose one of {', '.join(known)}")
        if form is ExportForm.PADDLE_LITE:
            content, left = export_nb(first.parent, table, opt_interpreter)
            write_atomically(out, content)
            for reason in left:
                typer.echo(f"in float: {reason}", err=True)
        elif form is ExportForm.PADDLE:
            scale_export.export_paddle(table, first.parent, int8 or known[0], out)
        else:
            source = first if spec.format == "onnx" else first.parent
            found = {shape.name: shape.dims for shape in spec.input_shapes}
            scale_export.export_onnx(table, source, spec.format, found, int8 or known[0], out)


def _cache_head(path: Path, table: ScaleTable, version: str | None) -> tuple[str, str]:
    """Version and kind of the cache: those asked for, or of the cache that the table came from; none is made up."""
    if version is not None:
        if not version.isdecimal():
            what = f"--tensorrt-version {version!r} is no number"
            raise QuantfleetError(ErrorCode.USAGE, what, "write it as a cache has it: 8401 for 8.4.1")
        return version, KIND
    numerics = table.header.numerics_class
    if numerics.engine != ENGINE:
        what = f"{path} did not come from TensorRT, and a calibration cache is of one version of it"
        raise QuantfleetError(ErrorCode.USAGE, what, "say which: --tensorrt-version 8401 for 8.4.1")
    found, _, kind = numerics.engine_version.partition("-")
    return found, kind


def _require_readers(model_format: str, source: Path) -> None:
    """Raise QuantfleetError(USAGE) with the pip command where what reads the model or the source is not installed."""
    paddle = model_format == "paddle" or source.is_dir()
    for package in ("onnx", "onnxruntime", *(("paddle", "paddle2onnx") if paddle else ())):
        if importlib.util.find_spec(package) is None:
            what = f"reading these scales needs {package}, which is not installed"
            todo = "run: pip install 'quantfleet[worker,onnxruntime]', and add paddle for Paddle models"
            raise QuantfleetError(ErrorCode.USAGE, what, todo)


@contextmanager
def _libraries_on_standard_error() -> Iterator[None]:
    """Let what libraries print in C go to standard error, so that standard output has the command's result alone."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
