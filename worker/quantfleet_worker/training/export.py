"""From a trained network to INT8 models: its FP32 program, and the ranges that training found. Not for training.

A trained network is quantized like any other, by a scale table; the table has the ranges that the fake quantization was
trained with, and observes only the tensors that it did not follow (a residual sum of a network of layers, say). So
every rule of the quantizers holds here too, and every engine's form can be made of it.
"""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np

from quantfleet_domain.calibration.forms import clip_range
from quantfleet_domain.calibration.scales import ActivationRow, ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.observed_table import observed_table
from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.models.paddle_model import inspect
from quantfleet_worker.models.paddle_program import Array
from quantfleet_worker.quantizers import onnx_qdq, paddle_lite, paddle_onednn, paddle_tensorrt
from quantfleet_worker.quantizers.onnx_qdq import QuantizedModel
from quantfleet_worker.quantizers.paddle_layers import QuantizedProgram
from quantfleet_worker.training.tail import NO_TAIL, Tail

LEARNED = "learned"
"""The calibrator that a row names whose range comes from training."""
OBSERVED = 32
"""How many samples are looked at for the tensors that training did not follow."""


def with_learned_ranges(table: ScaleTable, learned: Mapping[str, float]) -> ScaleTable:
    """The table of a trained model with the ranges of its training; `learned` are largest magnitudes by native name.

    The larger side of a row's range becomes the magnitude, the other stays within it. Rows that shared a range still
    share one.
    """
    own = {row.tensor: _learned(row, learned) for row in table.activations}
    groups: dict[str, list[ActivationRow]] = {}
    for row in own.values():
        groups.setdefault(row.tied_to or row.tensor, []).append(row)
    ranges = {first: (min(row.lo for row in rows), max(row.hi for row in rows)) for first, rows in groups.items()}
    rows = (replace(row, lo=lo, hi=hi) for row in own.values() for lo, hi in [ranges[row.tied_to or row.tensor]])
    return replace(table, activations=tuple(rows))


@dataclass(frozen=True)
class Export:
    """A trained network, to be written in any form of any runtime: its FP32 program without the `tail`, in a directory,
    the ONNX form of that, and the table of its scales."""

    program: Path
    reference: bytes
    table: ScaleTable
    tail: Tail

    def paddle(self, form: str, out: Path) -> QuantizedProgram:
        """Write one of `paddle_onednn.FORMS` to directory `out`. Raises as `paddle_onednn.quantize`."""
        return self._with_tail(paddle_onednn.quantize(self.program, self.table, form, out))

    def paddle_lite(self, out: Path) -> QuantizedProgram:
        """Write Paddle Lite's form to directory `out`. Raises as `paddle_lite.quantize`."""
        return self._with_tail(paddle_lite.quantize(self.program, self.table, out))

    def paddle_tensorrt(self, form: str, out: Path) -> QuantizedProgram:
        """Write one of `paddle_tensorrt.FORMS` to directory `out`. Raises as `paddle_tensorrt.quantize`."""
        return self._with_tail(paddle_tensorrt.quantize(self.program, self.table, form, out))

    def onnx(self, form: str, out: Path) -> QuantizedModel:
        """Write one of `onnx_qdq.FORMS` to file `out`. Raises as `onnx_qdq.quantize`."""
        with tempfile.TemporaryDirectory(prefix="quantfleet-training-") as folder:
            reference = Path(folder) / "reference.onnx"
            reference.write_bytes(self.tail.behind(self.reference))
            return onnx_qdq.quantize(reference, self.table, form, out)

    def _with_tail(self, written: QuantizedProgram) -> QuantizedProgram:
        if self.tail != NO_TAIL:
            self.tail.rewrite(written.path, find_files(written.path).stem)
        return written


def export(
    program: Path, learned: Mapping[str, float], feeds: Iterable[Mapping[str, Array]], tail: Tail = NO_TAIL
) -> Export:
    """The export of the trained FP32 program in directory `program`; `learned` are largest magnitudes by tensor.

    `feeds` are model inputs of batch 1, of which the first `OBSERVED` are looked at. Raises QuantfleetError as
    `paddle_model.inspect` does, and DATA_EMPTY without any.
    """
    observed = list(islice(feeds, OBSERVED))
    if not observed:
        raise QuantfleetError(
            ErrorCode.DATA_EMPTY, "exporting an INT8 program looks at samples, and there are none", "give some"
        )
    reference, graph = inspect(program, {name: values.shape for name, values in observed[0].items()})
    files = find_files(program)
    digest = sha256(files.program.read_bytes() + files.parameters.read_bytes()).hexdigest()
    table = observed_table(reference, graph, observed, digest)
    return Export(program, reference, with_learned_ranges(table, learned), tail)


def _learned(row: ActivationRow, learned: Mapping[str, float]) -> ActivationRow:
    if row.native_name is None or row.native_name not in learned:
        return row
    magnitude = float(np.float32(learned[row.native_name]))
    lo, hi = clip_range(row.lo, row.hi, magnitude)
    lo, hi = (-magnitude, hi) if -row.lo > row.hi else (lo, magnitude)
    return replace(row, calibrator=LEARNED, lo=lo, hi=hi)
