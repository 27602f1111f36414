"""What a user submits, with every path already turned into a digest. Not for reading YAML (see quantfleet.jobfile)."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

MODEL_FORMATS = ("onnx", "paddle")
MODES = ("runtime", "end2end")
PRECISIONS = ("fp32", "int8")


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

    `bias_correction` corrects biases, `ties` gives tensors one range that engines want in one, `exclude_below_db`
    leaves layers in float whose own signal-to-quantization-noise ratio is below it. `mixed` lets nodes of different
    instruction sets share the work, at the price of exactness. `reuse` takes over what earlier jobs counted.
    `extremes_only` keeps each sample's extremes and counts nothing else: for the calibrators of EXTREMES_CALIBRATORS.
    """

    data: DataSet
    calibrator: str
    percentile: float
    shards: int
    bias_correction: bool = True
    exclude_below_db: float | None = None
    ties: bool = True
    mixed: bool = False
    reuse: bool = True
    extremes_only: bool = False


@dataclass(frozen=True)
class TargetSpec:
    """Where a model is measured: one device of `pool` (empty: any), on each engine, in each precision."""

    pool: str
    engines: tuple[str, ...]
    precisions: tuple[str, ...]
    threads: tuple[int, ...]
    batch_sizes: tuple[int, ...]


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
class ModelSpec:
    """One model of a job and all that is done to it.

    `files` are one `.onnx` file (and its external data), or the files of a Paddle inference model. `preprocess` is the
    model's own configuration; it drives every task and travels with the quantized model.
    """

    name: str
    format: str
    files: tuple[FileRef, ...]
    input_shapes: tuple[InputShape, ...]
    preprocess: FileRef | None
    calibration: CalibrationSpec | None
    targets: tuple[TargetSpec, ...]
    evaluate: EvaluateSpec | None


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
            if model.calibration:
                found |= model.calibration.data.inputs()
            if model.evaluate:
                found |= model.evaluate.data.inputs()
        return frozenset(found)
