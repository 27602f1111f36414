"""From a scale table to an INT8 `.nb` file: `scales export --form paddle-lite`. Not for tasks of a job."""

import tempfile
from pathlib import Path

from quantfleet_domain.calibration.correction import FormCorrections
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.phones.nb_file import TARGET, read_nb
from quantfleet_worker.phones.opt import OptRequest, convert
from quantfleet_worker.quantizers import paddle_lite


def export_nb(
    model: Path, table: ScaleTable, interpreter: str, corrections: FormCorrections | None = None
) -> tuple[bytes, tuple[str, ...]]:
    """Quantize the Paddle model in directory `model` by the table and convert it for ARM phones, armv7 and armv8 alike.

    Gives the file's bytes, and the layers that are not in INT8 with their reasons. Raises QuantfleetError as
    `paddle_lite.quantize` and `opt.convert` do.
    """
    with tempfile.TemporaryDirectory(prefix="quantfleet-lite-") as folder:
        scratch = Path(folder)
        written = paddle_lite.quantize(model, table, scratch / "program", corrections)
        content = convert(interpreter, find_files(written.path), OptRequest(TARGET), scratch).content
    nb = read_nb(content, "what opt made")
    nb.require_target(TARGET, "what opt made")
    return content, nb.counts(quantized=True).fallbacks
