"""What a task asks of a worker: plain values. Not for what comes back (see `task_results`), nor for who does it."""

from dataclasses import dataclass

from quantfleet_domain.calibration.graph import NumericsClass
from quantfleet_domain.jobs.spec import FileRef, InputShape, OutputKind, TrainingSpec


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
class NativeWork:
    """Have an engine find the ranges of a model by its own calibrator, over all samples on one device.

    What comes of it depends on the device and the engine's version: it is outside the exactness law. `files` are the
    FP32 model as the engine takes it.
    """

    model: str
    engine: str
    runtime: str
    files: tuple[FileRef, ...]
    input_shapes: tuple[InputShape, ...]
    data: Slice
    preprocess: FileRef | None


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
    the FP32 model: the teacher of a distillation. Without `validation` the last model is the best. `runtimes` are those
    that execute what comes of it.
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
    runtimes: tuple[str, ...]


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
    models were not made; the result says so of them. `form` is that of a static INT8 model, empty for the engine's own
    choice.
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
    form: str = ""


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
    form: str = ""


Work = (
    InspectWork
    | CalibrateWork
    | ScoreWork
    | CorrectWork
    | TrainWork
    | QuantizeWork
    | NativeWork
    | BenchmarkWork
    | EvaluateWork
)
