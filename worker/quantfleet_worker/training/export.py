"""From a trained network to an INT8 program: its FP32 program, and the ranges that training found. Not for training.

A trained network is quantized like any other, by a scale table; the table has the ranges that the fake quantization was
trained with, and observes only the tensors that it did not follow (a residual sum of a network of layers, say). So
every rule of the quantizers holds here too, and every engine's form can be made of it.
"""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np

from quantfleet_domain.calibration.calibrators import calibrator_named
from quantfleet_domain.calibration.forms import clip_range
from quantfleet_domain.calibration.graph import NumericsClass
from quantfleet_domain.calibration.partial import PartialAccumulator
from quantfleet_domain.calibration.scales import ActivationRow, ScaleTable
from quantfleet_domain.calibration.statistic import EXTREMES_VERSION
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.models.paddle_model import inspect
from quantfleet_worker.models.paddle_program import Array
from quantfleet_worker.models.reference_run import ReferenceRun
from quantfleet_worker.quantizers.paddle_onednn import QuantizedProgram, quantize

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


def export_int8(
    program: Path, learned: Mapping[str, float], feeds: Iterable[Mapping[str, Array]], form: str, out: Path
) -> QuantizedProgram:
    """Write the INT8 form of the trained FP32 program in directory `program` to directory `out`.

    Raises QuantfleetError as `learned_table` and `paddle_onednn.quantize` do.
    """
    _, table = learned_table(program, learned, feeds)
    return quantize(program, table, form, out)


def learned_table(
    program: Path, learned: Mapping[str, float], feeds: Iterable[Mapping[str, Array]]
) -> tuple[bytes, ScaleTable]:
    """The reference graph (ONNX bytes) of a trained FP32 program, and the table from which every engine's quantizer can
    make its INT8 form of the two.

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
    # No partial statistic of other workers is merged into it, so what keeps two workers' apart is empty.
    numerics = NumericsClass("onnxruntime-cpu", "", "", digest, graph.recipe, "", EXTREMES_VERSION)
    with tempfile.TemporaryDirectory(prefix="quantfleet-training-") as folder:
        path = Path(folder) / "reference.onnx"
        path.write_bytes(reference)
        run, statistics = ReferenceRun(path, graph), PartialAccumulator(numerics, graph.activations)
        for index, inputs in enumerate(observed):
            statistics.observe(index, str(index), dict(run.activations(inputs)))
    table = ScaleTable.build(statistics.partial(), graph, calibrator_named("absmax"), manifest="", preprocessing="")
    return reference, with_learned_ranges(table, learned)


def _learned(row: ActivationRow, learned: Mapping[str, float]) -> ActivationRow:
    if row.native_name is None or row.native_name not in learned:
        return row
    magnitude = float(np.float32(learned[row.native_name]))
    lo, hi = clip_range(row.lo, row.hi, magnitude)
    lo, hi = (-magnitude, hi) if -row.lo > row.hi else (lo, magnitude)
    return replace(row, calibrator=LEARNED, lo=lo, hi=hi)
