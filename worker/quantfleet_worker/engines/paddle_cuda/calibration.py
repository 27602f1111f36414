"""Has TensorRT find ranges through Paddle, over all samples, and takes the tables that Paddle writes. Not for scales.

With `use_calib_mode` and no table, Paddle runs the model by its own kernels and feeds TensorRT's entropy calibrator
with what goes into each engine; it writes the tables when the predictor ends (analysis_predictor.cc,
`SaveTrtCalibToDisk`).
"""

import gc
import shutil
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError

from ..base import Array
from . import predictors
from .model import PaddleModel
from .plan import Plan
from .tables import CACHE_FOLDER
from .workplace import Workplace

_given_up: list[Any] = []
"""Predictors that must not end before the process does: at their end they would make tables of what they have."""


def calibrate(paddle: Any, model: PaddleModel, batches: Iterable[Mapping[str, Array]], out: Path) -> None:
    """Write the model and `_opt_cache` with its tables to directory `out`.

    Raises QuantfleetError: DATA_EMPTY; ENGINE_FAILED for samples of unlike shapes, of which Paddle would read beyond
    the smaller ones, and where there is no table in the end.
    """
    samples = iter(batches)
    first = next(samples, None)
    if first is None:
        raise QuantfleetError(ErrorCode.DATA_EMPTY, "there are no samples to calibrate with", "give at least one")
    shapes = {name: tuple(array.shape) for name, array in first.items()}
    workplace = Workplace(model, {}, None)
    predictors.collect_shapes(paddle, workplace, model.signature.inputs, (shapes,))
    batch = next(iter(shapes.values()))[0]
    stream = paddle.device.cuda.Stream()
    plan = Plan("Int8", calibrated=True, pinned=False)
    config = predictors.with_tensorrt(paddle, workplace, plan, batch, stream, keep=False)
    predictor = predictors.create(paddle, config, workplace.program.name)
    handles = {name: predictor.get_input_handle(name) for name in predictor.get_input_names()}
    try:
        for feeds in alike(chain([first], samples), shapes):
            for name in handles:
                handles[name].copy_from_cpu(feeds[name])
            stream.synchronize()  # the calibrator copies on another stream (trt_int8_calibrator.cc, `setBatch`)
            predictor.run()
    except Exception:
        _given_up.append((predictor, handles))
        raise
    del handles, predictor
    gc.collect()
    tables = workplace.tables()
    if not tables:
        raise QuantfleetError(
            ErrorCode.ENGINE_FAILED,
            "Paddle wrote no calibration table: TensorRT took no part of the model, or found no range",
            "read the attempt's log for what Paddle printed",
        )
    (out / CACHE_FOLDER).mkdir(parents=True, exist_ok=True)
    for path in tables:
        shutil.copyfile(path, out / CACHE_FOLDER / path.name)
    for path in (model.files.program, model.files.parameters):
        shutil.copyfile(path, out / path.name)


def alike(
    samples: Iterable[Mapping[str, Array]], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[Mapping[str, Array]]:
    """The samples as they come. Raises QuantfleetError(ENGINE_FAILED) at the first of other shapes than these."""
    for number, feeds in enumerate(samples, 1):
        for name, shape in shapes.items():
            if tuple(feeds[name].shape) != shape:
                raise QuantfleetError(
                    ErrorCode.ENGINE_FAILED,
                    f"sample {number} has shape {list(feeds[name].shape)} at input {name}, and the first {list(shape)}",
                    "bring all samples to one size in the preprocessing",
                )
        yield feeds
