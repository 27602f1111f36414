"""What a task asks of a worker, and what comes back: plain values. Not for who does it and when."""

from dataclasses import dataclass

from quantfleet_domain.calibration.graph import NumericsClass
from quantfleet_domain.jobs.spec import FileRef, InputShape, OutputKind, TrainingSpec
from quantfleet_domain.measurement.latency import LatencySummary
from quantfleet_domain.measurement.quiet import Conditions


@dataclass(frozen=True)
class ModelForm:
    """A model in one quantized form, e.g. `u8s8` (empty for FP32): the files that the engine loads."""

    form: str
    files: tuple[FileRef, ...]


@dataclass(frozen=True)
class Variant:
    """A precision × quantization of a model; the engine takes the form that suits the device it finds itself on."""

    precision: str
    quantization: str
    forms: tuple[ModelForm, ...]


@dataclass(frozen=True)
class Slice:
    """Samples `first` … `first + count - 1` of a manifest."""

    manifest: FileRef
    first: int
    count: int


@dataclass(frozen=True)
class InspectWork:
    """Check a model, and bring it into the reference form that calibration reads, unless it is `quantized` already."""

    model: str
    format: str
    files: tuple[FileRef, ...]
    input_shapes: tuple[InputShape, ...]
    preprocess: FileRef | None
    quantized: bool = False


@dataclass(frozen=True)
class CalibrateWork:
    """Run a slice of the data through the instrumented reference graph and count."""

    model: str
    reference: FileRef
    graph: FileRef
    data: Slice
    preprocess: FileRef | None
    numerics: NumericsClass


@dataclass(frozen=True)
class ScoreWork:
    """Run the quantized network of each candidate scale table, simulated, and compare its outputs with FP32's."""

    model: str
    reference: FileRef
    graph: FileRef
    candidates: tuple[FileRef, ...]
    data: Slice
    preprocess: FileRef | None
    numerics: NumericsClass


@dataclass(frozen=True)
class CorrectWork:
    """Observe the mean outputs that a stage of bias correction needs, for all forms of these runtimes.

    `corrections` are those of the stages before; None at stage 0.
    """

    model: str
    reference: FileRef
    graph: FileRef
    scales: FileRef
    corrections: FileRef | None
    runtimes: tuple[str, ...]
    stage: int
    data: Slice
    preprocess: FileRef | None
    numerics: NumericsClass


@dataclass(frozen=True)
class QuantizeWork:
    """Make the INT8 forms that a runtime executes: of the scale table, and the bias corrections where there are some,
    for `static` quantization, of the weights alone for `dynamic`, which needs no scale table."""

    model: str
    runtime: str
    quantization: str
    format: str
    files: tuple[FileRef, ...]
    reference: FileRef
    scales: FileRef | None
    preprocess: FileRef | None
    corrections: FileRef | None = None


@dataclass(frozen=True)
class RuntimeForms:
    """A quantized model in the forms that the engines of a runtime may prefer."""

    runtime: str
    forms: tuple[ModelForm, ...]


@dataclass(frozen=True)
class TrainedForm:
    """The quantized model after so many iterations, and what its validation gave; None where there was none.

    `made` has it for every runtime that can execute it.
    """

    iteration: int
    value: float | None
    made: tuple[RuntimeForms, ...]

    def forms(self, runtime: str) -> tuple[ModelForm, ...] | None:
        """The forms of a runtime; None where it has none."""
        return next((item.forms for item in self.made if item.runtime == runtime), None)


@dataclass(frozen=True)
class Validation:
    """By what the models of a training are compared: samples of which the truth is known, as `EvaluateWork` has it, and
    a metric."""

    data: Slice
    kind: OutputKind
    annotations: FileRef | None
    metric: str


@dataclass(frozen=True)
class TrainWork:
    """Train an interval, and make a quantized model of what came of it.

    `checkpoint` is that of the interval before, None for the first; `best` the best quantized model so far. `files` are
    the FP32 model: the teacher of a distillation. Without `validation` the last model is the best.
    """

    model: str
    format: str
    files: tuple[FileRef, ...]
    input_shapes: tuple[InputShape, ...]
    preprocess: FileRef | None
    training: TrainingSpec
    interval: int
    checkpoint: FileRef | None
    best: TrainedForm | None
    data: Slice
    validation: Validation | None


@dataclass(frozen=True)
class Absence:
    """A cell that was asked for and not measured, and why. `applicable` is False where the engine does not offer it."""

    precision: str
    quantization: str
    mode: str
    threads: int
    batch: int
    reason: str
    applicable: bool


@dataclass(frozen=True)
class BenchmarkWork:
    """Measure all variants of one model on one engine, interleaved, alone on the measurement domain.

    `data` is None where the job brings no samples: then mode `runtime` is fed seeded noise and `end2end` is refused.
    `kind` is how `end2end` reads the outputs; None leaves that to the preprocessing file. `absent` are variants whose
    models were not made; the result says so of them.
    """

    model: str
    engine: str
    variants: tuple[Variant, ...]
    modes: tuple[str, ...]
    threads: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    warmup: int
    repeat: int
    require_quiet: bool
    input_shapes: tuple[InputShape, ...]
    data: Slice | None
    preprocess: FileRef | None
    memory: bool = False
    kind: OutputKind | None = None
    absent: tuple[Absence, ...] = ()


@dataclass(frozen=True)
class EvaluateWork:
    """Run a slice of samples of which the truth is known on the engine itself, and compare.

    The truth of classes is a sample's label, of pixels its mask, of boxes what `annotations` (a COCO file) says.
    """

    model: str
    engine: str
    variant: Variant
    input_shapes: tuple[InputShape, ...]
    data: Slice
    preprocess: FileRef | None
    kind: OutputKind = OutputKind.CLASSES
    annotations: FileRef | None = None


Work = InspectWork | CalibrateWork | ScoreWork | CorrectWork | TrainWork | QuantizeWork | BenchmarkWork | EvaluateWork


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
class Measured:
    """One variant × mode × threads × batch.

    `speedup` compares with FP32 of the same task, where that was measured. `quiet` is the verdict on the machine's
    `conditions`, `noise` why it is not. `memory_mb` is the peak resident memory (MiB) of a process that does nothing
    but load and run the variant, where that was asked for. `int8_operators`, `fallbacks` and `conversions` are the
    engine's own account of a run.
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
