"""What a user submits, with every path already turned into a digest. Not for reading YAML (see quantfleet.jobfile)."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

MODEL_FORMATS = ("onnx", "paddle", "paddle-lite")
MODES = ("runtime", "end2end")
QUANTIZATIONS = ("static", "dynamic", "qat", "distill", "native", "given")
"""How an INT8 model comes about: from a scale table; with ranges found while it runs; by quantization-aware training;
by distillation from the FP32 model; with ranges that the engine's own calibrator found, on one device; or as somebody
else made it."""
TRAINED = ("qat", "distill")


class OutputKind(StrEnum):
    """What a model says of a sample: its class, a class for each of its pixels, or boxes around what is in it."""

    CLASSES = "classes"
    PIXELS = "pixels"
    BOXES = "boxes"


METRICS_OF: Mapping[OutputKind, tuple[str, ...]] = {
    OutputKind.CLASSES: ("top1", "top5", "accuracy"),
    OutputKind.PIXELS: ("miou", "pixel_accuracy"),
    OutputKind.BOXES: ("map", "map50"),
}
METRICS = tuple(metric for metrics in METRICS_OF.values() for metric in metrics)


def kind_of(metrics: Sequence[str]) -> OutputKind:
    """What a model must say for these metrics to be computed; by the first, where they do not agree."""
    return next(kind for kind, known in METRICS_OF.items() if metrics[0] in known)


@dataclass(frozen=True)
class FileRef:
    """A file by content: `name` as its reader expects it (relative, no `..`), SHA-256 in hex, size in bytes."""

    name: str
    digest: str
    size: int


def model_sha256(files: Sequence[FileRef]) -> str:
    """What names a submitted model: the digest of its one file, or of the sorted list of its files."""
    if len(files) == 1:
        return files[0].digest
    listing = "".join(f"{ref.digest}  {ref.name}\n" for ref in sorted(files, key=lambda ref: ref.name))
    return hashlib.sha256(listing.encode()).hexdigest()


@dataclass(frozen=True)
class InputShape:
    """The shape of one model input, batch dimension first."""

    name: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class DataSet:
    """An ordered set of samples: `manifest` is the file that lists them, `samples` their number.

    `annotations` is the COCO file that says which boxes are in them, where there is one.
    """

    manifest: FileRef
    samples: int
    annotations: FileRef | None = None

    def inputs(self) -> frozenset[str]:
        """The digests of the files that it names itself."""
        return frozenset(ref.digest for ref in (self.manifest, self.annotations) if ref)


@dataclass(frozen=True)
class CalibrationSpec:
    """How the scale table is made. `shards` is 0 for as many as the fleet can use at once; no bit depends on it.

    `scales` is a table that the job brings: then nothing is calibrated, `calibrator` is the one that the table names,
    and `data`, where there is some, are the samples on which biases are corrected.

    `bias_correction` corrects biases, `ties` gives tensors one range that engines want in one, `exclude_below_db`
    leaves layers in float whose own signal-to-quantization-noise ratio is below it. `mixed` lets nodes of different
    instruction sets share the work, at the price of exactness. `reuse` takes over what earlier jobs counted.
    `extremes_only` keeps each sample's extremes and counts nothing else: for the calibrators of EXTREMES_CALIBRATORS.
    """

    data: DataSet | None
    calibrator: str
    percentile: float
    shards: int
    bias_correction: bool = True
    exclude_below_db: float | None = None
    ties: bool = True
    mixed: bool = False
    reuse: bool = True
    extremes_only: bool = False
    scales: FileRef | None = None


@dataclass(frozen=True)
class TargetSpec:
    """Where a model is measured: one device of `pool` (empty: any), on each engine (none: all of the fleet that read
    the model), in each precision; `form` of a static INT8 model, or the one that the engine prefers (empty)."""

    pool: str
    engines: tuple[str, ...]
    precisions: tuple[str, ...]
    threads: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    form: str = ""


@dataclass(frozen=True)
class BenchmarkSpec:
    """The protocol of measurement: `warmup` and `repeat` count runs; `require_quiet` refuses a noisy figure; `memory`
    asks for the peak memory of each variant, from a run of its own."""

    modes: tuple[str, ...]
    warmup: int
    repeat: int
    require_quiet: bool
    memory: bool = False


@dataclass(frozen=True)
class EvaluateSpec:
    """Labelled samples and the metrics computed from them; `shards` as in `CalibrationSpec`."""

    data: DataSet
    metrics: tuple[str, ...]
    shards: int


@dataclass(frozen=True)
class TrainingSpec:
    """A training that ends in a quantized Paddle model: `method` is `qat` or `distill`.

    `package` is the user's code that builds the network of a `qat` (empty for `distill`), `config` what that code, or
    PaddleSlim's auto-compression, is configured with. `weights` are what a `qat` starts from, `resume` is a checkpoint
    to go on from. `iterations` of `batch_size` samples each are run in intervals of `save_interval`, each of which
    leaves a checkpoint; with `validate` the best of these by the job's first metric is taken, else the last.
    `workers` read samples ahead; the loss is kept every `log_interval` iterations. `batch_size` and `learning_rate` are
    None where the configuration gives them. A segmentation network is exported with an argmax unless `without_argmax`,
    any with a softmax if `with_softmax`.
    """

    method: str
    package: str
    config: FileRef | None
    weights: FileRef | None
    resume: FileRef | None
    data: DataSet
    iterations: int
    batch_size: int | None
    learning_rate: float | None
    save_interval: int
    validate: bool
    workers: int
    log_interval: int
    with_softmax: bool
    without_argmax: bool

    @property
    def intervals(self) -> int:
        """How many intervals there are; the last may be shorter."""
        return -(-self.iterations // self.save_interval)


@dataclass(frozen=True)
class GivenModel:
    """A quantized form of a model that its user made elsewhere, in a format of MODEL_FORMATS."""

    format: str
    files: tuple[FileRef, ...]


@dataclass(frozen=True)
class ModelSpec:
    """One model of a job and all that is done to it.

    `files` are one `.onnx` file (and its external data), the files of a Paddle inference model, or one quantized `.nb`
    file of Paddle Lite. `preprocess` is the model's own configuration; it drives every task and travels with the
    quantized model. `quantizations` are the ways
    in which INT8 comes about; each of TRAINED among them has its training, `given` its `given` files. A model that is
    `quantized` itself has no FP32 and is measured as it is.
    """

    name: str
    format: str
    files: tuple[FileRef, ...]
    input_shapes: tuple[InputShape, ...]
    preprocess: FileRef | None
    calibration: CalibrationSpec | None
    targets: tuple[TargetSpec, ...]
    evaluate: EvaluateSpec | None
    quantizations: tuple[str, ...] = ("static",)
    trainings: tuple[TrainingSpec, ...] = ()
    given: GivenModel | None = None
    quantized: bool = False

    def training(self, method: str) -> TrainingSpec:
        """The training of a method that is among the model's quantizations."""
        return next(training for training in self.trainings if training.method == method)

    def data_sets(self) -> tuple[DataSet, ...]:
        """Every set of samples that something is done with."""
        sections = (self.calibration, self.evaluate, *self.trainings)
        return tuple(section.data for section in sections if section and section.data)


@dataclass(frozen=True)
class JobSpec:
    """A whole job. `patience_s` is how long a task may wait for a device before its row is absent; `document` is the
    job file as the user wrote it, kept for the report."""

    name: str
    models: tuple[ModelSpec, ...]
    benchmark: BenchmarkSpec
    gates: tuple[str, ...]
    patience_s: float
    document: str

    def inputs(self) -> frozenset[str]:
        """The digests of everything that the job itself names (samples and masks are named by the manifests)."""
        found: set[str] = set()
        for model in self.models:
            found.update(ref.digest for ref in model.files)
            if model.preprocess:
                found.add(model.preprocess.digest)
            for data in model.data_sets():
                found |= data.inputs()
            if model.given:
                found.update(ref.digest for ref in model.given.files)
            for training in model.trainings:
                found.update(ref.digest for ref in (training.config, training.weights, training.resume) if ref)
            if model.calibration and model.calibration.scales:
                found.add(model.calibration.scales.digest)
        return frozenset(found)
