"""A Paddle model as calibration sees it: its ONNX form for the reference run, and its graph. Not for running it.

paddle2onnx and Paddle write to standard output; keep it off a pipe that carries data.
"""

import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models import onnx_model
from quantfleet_worker.models.paddle_files import PaddleFiles, check, find_files
from quantfleet_worker.models.paddle_names import map_names, random_feeds
from quantfleet_worker.models.paddle_normalize import normalize, settle_enlargements
from quantfleet_worker.models.paddle_pir import load_program, prove
from quantfleet_worker.models.paddle_program import PaddleProgram, load_paddle, old_programs

OPSET = 17


def to_onnx(files: PaddleFiles, target: Path) -> None:
    """Convert a model to an ONNX file of opset 17.

    Raises QuantfleetError(MODEL_UNREADABLE) for a damaged model, MODEL_UNSUPPORTED for an operator that ONNX lacks.
    """
    check(files)
    import paddle2onnx

    try:
        paddle2onnx.export(
            str(files.program),
            str(files.parameters),
            save_file=str(target),
            opset_version=OPSET,
            auto_upgrade_opset=True,
            optimize_tool="None",  # the default tool installs packages while it runs
        )
    except (Exception, SystemExit) as error:  # paddle2onnx leaves by sys.exit where it cannot convert
        raise _unconvertible(files, str(error)) from error
    if not target.is_file() or not target.stat().st_size:
        raise _unconvertible(files, "it wrote no ONNX file")


def _unconvertible(files: PaddleFiles, said: str) -> QuantfleetError:
    return QuantfleetError(
        ErrorCode.MODEL_UNSUPPORTED,
        f"paddle2onnx cannot convert {files.program}: {said}",
        "its log above names the operator; calibration needs a model that has an ONNX form",
    )


def inspect(path: Path, input_shapes: Mapping[str, tuple[int, ...]]) -> tuple[bytes, CalibrationGraph]:
    """The reference graph (ONNX bytes) of the Paddle model in directory `path`, and what calibration knows of it.

    The program is normalised first (`normalize`: batch normalisation folded, biases attached), a PIR program after it
    was rewritten in the old format, and converted then, so that the weights of the reference graph are those that the
    Paddle quantizer quantizes. A model that has no such form but converts as it is can be calibrated for other
    runtimes: all its activations are `unmapped`.

    Raises QuantfleetError: MODEL_NOT_FOUND, MODEL_UNREADABLE, MODEL_UNSUPPORTED, SHAPE_MISSING or JOB_INVALID.
    """
    files = find_files(path)
    program = _normalized(files)
    if program is not None:
        with old_programs():
            program.declare_inputs(input_shapes)
            settle_enlargements(program)
    with tempfile.TemporaryDirectory(prefix="quantfleet-paddle-") as folder:
        scratch = Path(folder)
        source = files
        if program is not None:
            source = PaddleFiles(scratch, files.stem, pir=False)
            program.save(scratch, files.stem)
        to_onnx(source, scratch / "reference.onnx")
        reference, graph = onnx_model.inspect(scratch / "reference.onnx", input_shapes, _converter())
    if program is not None and files.pir:
        prove(files, program, random_feeds(graph.inputs, seed=0))
    return reference, map_names(reference, graph, program)


def _converter() -> str:
    return f"paddle-{load_paddle().__version__} paddle2onnx-{metadata.version('paddle2onnx')}"


def _normalized(files: PaddleFiles) -> PaddleProgram | None:
    try:
        return normalize(load_program(files))
    except QuantfleetError as error:
        if error.code is ErrorCode.MODEL_UNSUPPORTED:
            return None
        raise
