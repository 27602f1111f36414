"""Makes a scale table of what another tool found: a TensorRT cache, or a quantized ONNX or Paddle model. Not for
exporting.

Paddle and paddle2onnx write to standard output; keep it off what carries data.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import onnx

from quantfleet_domain.calibration.imported import Origin, Range, completed, imported_table, symmetric
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.calibration.tensorrt_cache import ENGINE, CalibrationCache
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.spec import FileRef, model_sha256
from quantfleet_wire.content import digest_file
from quantfleet_worker.models import onnx_file, onnx_model, onnx_values, paddle_model
from quantfleet_worker.models.onnx_ranges import qdq_ranges
from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.models.paddle_thresholds import read_thresholds


def import_scales(
    source: Path, model: Path, model_format: str, input_shapes: Mapping[str, tuple[int, ...]], model_digest: str
) -> ScaleTable:
    """The table of `source` for the FP32 model in `model`.

    `source` is a cache's file, a QDQ model's `.onnx` or a quantized Paddle model's directory. `model` is an .onnx file
    or, where `model_format` is paddle, a directory; `model_digest` is its SHA-256 as a job has it. Names are the
    model's own. Raises QuantfleetError: SCALES_INVALID, MODEL_NOT_FOUND, MODEL_UNREADABLE, MODEL_UNSUPPORTED,
    SHAPE_MISSING, JOB_INVALID.
    """
    if source.is_dir():
        ranges, origin = _read_paddle(source)
    else:
        ranges, origin = _read_onnx(source) if source.suffix == ".onnx" else _read_cache(source)
    inspect = onnx_model.inspect if model_format == "onnx" else paddle_model.inspect
    content, graph = inspect(model, input_shapes)
    reference = onnx.load_from_string(content).graph
    ranges = completed(ranges, onnx_values.moves(reference))
    return imported_table(ranges, graph, onnx_values.nonnegative(reference), model=model_digest, origin=origin)


def _read_onnx(source: Path) -> tuple[dict[str, Range], Origin]:
    model = onnx_file.read(source)
    ranges = qdq_ranges(model)
    if not ranges:
        what = f"{source} quantizes no activation with QuantizeLinear"
        raise QuantfleetError(ErrorCode.SCALES_INVALID, what, "give a model in QDQ form, not its FP32 form")
    producer = f"{model.producer_name} {model.producer_version}".strip() or "unknown"
    return ranges, Origin("onnx", producer, digest_file(source))


def _read_cache(source: Path) -> tuple[dict[str, Range], Origin]:
    try:
        content = source.read_bytes()
    except OSError as error:
        what = f"{source} cannot be read: {error.strerror}"
        todo = "give a TensorRT calibration cache, a QDQ model (.onnx), or the directory of a quantized Paddle model"
        raise QuantfleetError(ErrorCode.SCALES_INVALID, what, todo) from error
    cache = CalibrationCache.from_text(content, str(source))
    origin = Origin(ENGINE, f"{cache.version}-{cache.kind}", sha256(content).hexdigest())
    return symmetric(cache.thresholds()), origin


def _read_paddle(source: Path) -> tuple[dict[str, Range], Origin]:
    files = find_files(source)
    found = read_thresholds(files)
    refs = [FileRef(path.name, digest_file(path), path.stat().st_size) for path in (files.program, files.parameters)]
    return symmetric(found.thresholds), Origin("paddle", found.version, model_sha256(refs))
