"""How the quantized models of a report came about, as values: calibrations and trainings. Not as tables."""

from collections.abc import Mapping
from dataclasses import dataclass

from quantfleet_domain.reporting.facts import Fact


@dataclass(frozen=True)
class BiasCorrection:
    """What was done to biases: on so many samples, in `stages` passes of `seconds` wall time over all shards."""

    sha256: str
    samples: int
    layers: int
    stages: int
    seconds: float


@dataclass(frozen=True)
class Outlier:
    """A sample that drives the range of `tensors` tensors: its largest magnitude in the `worst` is `absmax`, where all
    samples that do not drive it stay below `without`."""

    sample: str
    tensors: int
    worst: str
    absmax: float
    without: float


@dataclass(frozen=True)
class Calibration:
    """How one model's scale table was made. `scales_sha256` names its bytes, `seconds` is wall time of all shards.

    `calibrator` is what the job asked for, `chosen` what came of `auto` for the whole model, by the `scores` of the
    candidates (output SQNR on samples held back, dB). `recalled` samples were known from earlier jobs; `collectors` are
    what counted the others. `excluded` layers stayed in float by their measured error.
    """

    calibrator: str
    samples: int
    shards: int
    scales_sha256: str
    numerics_class: Mapping[str, Fact]
    seconds: float | None
    parameter: float | None = None
    chosen: str | None = None
    scores: Mapping[str, float] | None = None
    recalled: int | None = None
    collectors: tuple[str, ...] = ()
    ties: bool | None = None
    bias_correction: BiasCorrection | None = None
    excluded: tuple[str, ...] = ()
    outliers: tuple[Outlier, ...] = ()


@dataclass(frozen=True)
class Training:
    """A training that made a quantized model: `iterations` in `intervals`, `seconds` wall time of all of them together.

    `best_iteration` is that of the model that was taken, for its `metric` of `best_value` on the validation data (both
    None where the last was taken). `losses` are by iteration, `checkpoint_sha256` names the last checkpoint.
    """

    model: str
    method: str
    iterations: int
    intervals: int
    samples: int
    seconds: float
    best_iteration: int
    metric: str | None
    best_value: float | None
    losses: Mapping[str, float]
    checkpoint_sha256: str
