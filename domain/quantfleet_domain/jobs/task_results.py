"""What comes back from a task, whoever did it: plain values. Not for whether its task can have it (see `results`)."""

from dataclasses import dataclass

from quantfleet_domain.calibration.graph import NumericsClass
from quantfleet_domain.jobs.measured import BenchmarkResult, EvaluateResult
from quantfleet_domain.jobs.spec import FileRef, InputShape
from quantfleet_domain.jobs.work import ModelForm, TrainedForm


@dataclass(frozen=True)
class InspectResult:
    """The reference graph and what was found in it; a quantized model has none."""

    reference: FileRef | None
    graph: FileRef | None
    numerics: NumericsClass | None
    input_shapes: tuple[InputShape, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class KeptPartial:
    """A partial statistic that an earlier job left; its samples are indices in `manifest`."""

    manifest: FileRef
    partial: FileRef


@dataclass(frozen=True)
class RecallResult:
    """What need not be computed again, found by the coordinator; `missing` is the manifest of the other samples."""

    kept: tuple[KeptPartial, ...]
    recalled: int
    missing: FileRef
    samples: int


@dataclass(frozen=True)
class CalibrateResult:
    """Partial statistics of a shard; those held back for judging calibrators are apart from the others.

    `seconds` is wall time in the child process; `collector` names what counted, and why where it was not the fastest.
    """

    partials: tuple[FileRef, ...]
    samples: int
    seconds: float
    collector: str


@dataclass(frozen=True)
class SumsResult:
    """Sums over a shard's samples, of a `score` or `correct` task; `seconds` is wall time in the child process.

    `sums` is None for a shard without samples.
    """

    sums: FileRef | None
    samples: int
    seconds: float


@dataclass(frozen=True)
class LossPoint:
    """The training loss at an iteration, counted from 1."""

    iteration: int
    loss: float


@dataclass(frozen=True)
class TrainResult:
    """An interval of a training: its checkpoint after `iterations` in all, and the best quantized model so far.

    `value` is this checkpoint's own `metric` on the validation data, None where there was none. `seconds` is wall time
    in the child process.
    """

    method: str
    iterations: int
    checkpoint: FileRef
    losses: tuple[LossPoint, ...]
    metric: str
    value: float | None
    best: TrainedForm
    seconds: float


@dataclass(frozen=True)
class QuantizeResult:
    """The quantized model in every form that the runtime's engines may prefer."""

    runtime: str
    forms: tuple[ModelForm, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class OutlierSample:
    """A sample that drives the range of `tensors` tensors, alone or with few others: its largest magnitude in the
    `worst` of them is `absmax`, where all samples that do not drive it stay below `without`."""

    sample: str
    tensors: int
    worst: str
    absmax: float
    without: float


@dataclass(frozen=True)
class MergeResult:
    """The scale table, made by the coordinator from all partial statistics.

    With calibrator `auto`, `choices` are the tables to choose from and `scales` is the first of them; `candidates` are
    their likes made without the samples of manifest `held_back`, on which they are judged. `excerpt` is the manifest of
    the samples on which biases are corrected. `warnings` are what a user should know of the ranges.
    """

    scales: FileRef
    samples: int
    shards: int
    seconds: float
    choices: tuple[FileRef, ...]
    candidates: tuple[FileRef, ...]
    held_back: FileRef
    held_back_samples: int
    excerpt: FileRef
    excerpt_samples: int
    outliers: tuple[OutlierSample, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class CandidateScore:
    """A candidate scale table's outputs against FP32's on the samples held back, as a ratio in decibel."""

    calibrator: str
    sqnr_db: float


@dataclass(frozen=True)
class ChooseResult:
    """The scale table that did best as a whole, chosen by the coordinator; `scores` in the order of the candidates."""

    scales: FileRef
    calibrator: str
    scores: tuple[CandidateScore, ...]
    seconds: float


@dataclass(frozen=True)
class SettleResult:
    """The bias corrections after a stage, made by the coordinator; `excluded` layers stay in float, by form."""

    corrections: FileRef
    layers: int
    excluded: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class ReportResult:
    """The finished report."""

    report: FileRef


Result = (
    InspectResult
    | RecallResult
    | CalibrateResult
    | MergeResult
    | SumsResult
    | ChooseResult
    | SettleResult
    | TrainResult
    | QuantizeResult
    | BenchmarkResult
    | EvaluateResult
    | ReportResult
)
