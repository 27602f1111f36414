"""What tasks `benchmark` and `evaluate` find out of a model: plain values. Not for how figures are computed."""

from dataclasses import dataclass

from quantfleet_domain.jobs.spec import FileRef, InputShape
from quantfleet_domain.jobs.work import Absence
from quantfleet_domain.measurement.latency import LatencySummary
from quantfleet_domain.measurement.quiet import Conditions


@dataclass(frozen=True)
class Setting:
    """A setting as read back from the engine or the machine."""

    name: str
    value: str


@dataclass(frozen=True)
class Ratio:
    """A ratio of mean latencies with its 95 % bootstrap interval (None for a single block)."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Conversion:
    """Work that an engine does between nodes of one run, by the engine's own name for it (`ReorderInput`, `reorder`).

    `count` is per run; `time_share` is of the whole run's time by the engine's profile, 0 to 1, None where the profile
    does not say.
    """

    operator: str
    count: int
    time_share: float | None


@dataclass(frozen=True)
class Part:
    """A part of a run (`h2d`, `compute`, `d2h`) by the device's own clock; its mean over all timed runs."""

    name: str
    mean_ms: float


@dataclass(frozen=True)
class Measured:
    """One variant × mode × threads × batch.

    `speedup` compares with FP32 of the same task, where that was measured. `quiet` is the verdict on the machine's
    `conditions`, `noise` why it is not. `memory_mb` is the peak resident memory (MiB) of a process that does nothing
    but load and run the variant, where that was asked for. `int8_operators`, `fallbacks` and `conversions` are the
    engine's own account of a run. `parts` are those of a run on a device that has a clock of its own.
    """

    precision: str
    quantization: str
    form: str
    mode: str
    threads: int
    batch: int
    latency: LatencySummary
    speedup: Ratio | None
    quiet: bool
    noise: tuple[str, ...]
    conditions: Conditions
    settings: tuple[Setting, ...]
    int8_nodes: int
    quantizable_nodes: int
    fallbacks: tuple[str, ...]
    model_bytes: int
    input_shapes: tuple[InputShape, ...]
    memory_mb: float | None = None
    int8_operators: tuple[str, ...] = ()
    conversions: tuple[Conversion, ...] = ()
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class BenchmarkResult:
    """Everything one benchmark task measured. `measured_at` is seconds since the epoch, UTC; `blocks` interleaved the
    variants; `samples` holds every raw latency; `warnings` are what a user should know of the device."""

    engine: str
    engine_version: str
    device: str
    measured_at: float
    warmup: int
    repeat: int
    blocks: int
    rows: tuple[Measured, ...]
    absent: tuple[Absence, ...]
    samples: FileRef
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassOutcome:
    """Per sample, in slice order: the label, the predicted class, and whether the label was among the five best."""

    labels: tuple[int, ...]
    predicted: tuple[int, ...]
    in_top5: tuple[bool, ...]


@dataclass(frozen=True)
class PixelOutcome:
    """How many pixels of which class were taken for which: a confusion matrix, `counts[true * classes + predicted]`.

    Classes beyond the last that occurs may be left out. Pixels that are not judged are not in it.
    """

    samples: int
    classes: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class BoxOutcome:
    """COCO's mean average precision of boxes in percent: `map` over overlaps of 0.50 to 0.95, `map50` at 0.50."""

    samples: int
    map: float
    map50: float


Outcome = ClassOutcome | PixelOutcome | BoxOutcome


@dataclass(frozen=True)
class EvaluateResult:
    """What a slice of samples came to; `first` is the index of its first."""

    engine: str
    engine_version: str
    precision: str
    quantization: str
    form: str
    first: int
    outcome: Outcome
