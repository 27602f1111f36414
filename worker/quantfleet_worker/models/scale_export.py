"""Writes a scale table as the INT8 model of another tool. Not for reading one (see `scale_import`), nor for jobs.

Paddle and paddle2onnx write to standard output; keep it off what carries data.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models import onnx_model, paddle_model
from quantfleet_worker.quantizers import onnx_qdq, paddle_onednn

ONNX_FORMS = (*onnx_qdq.FORMS, onnx_qdq.SYMMETRIC)
PADDLE_FORMS = paddle_onednn.FORMS


def export_onnx(
    table: ScaleTable, model: Path, model_format: str, shapes: Mapping[str, tuple[int, ...]], form: str, out: Path
) -> None:
    """Write the QDQ model of an ONNX or (converted) Paddle model in one of ONNX_FORMS to file `out`.

    Raises QuantfleetError as `inspect` and `onnx_qdq.quantize` do; then nothing is written.
    """
    inspect = onnx_model.inspect if model_format == "onnx" else paddle_model.inspect
    content, _ = inspect(model, shapes)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".quantfleet-") as folder:
        reference, written = Path(folder) / "reference.onnx", Path(folder) / out.name
        reference.write_bytes(content)
        onnx_qdq.quantize(reference, table, form, written)
        written.replace(out)


def export_paddle(table: ScaleTable, model: Path, form: str, out: Path) -> None:
    """Write the INT8 program of a Paddle model in one of PADDLE_FORMS to directory `out`, which is made.

    Raises QuantfleetError as `paddle_onednn.quantize` does, and USAGE where something is there already; then nothing is
    written.
    """
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()
    if out.exists():
        raise QuantfleetError(
            ErrorCode.USAGE, f"there is something at {out} already", "name a directory that is empty, or is not there"
        )
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".quantfleet-") as folder:
        written = Path(folder) / "model"
        paddle_onednn.quantize(model, table, form, written)
        written.replace(out)
