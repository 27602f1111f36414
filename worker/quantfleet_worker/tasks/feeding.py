"""From samples to model inputs, by the model's own preprocessing. Not for the preprocessing itself."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Sample
from quantfleet_domain.jobs.spec import FileRef, InputShape
from quantfleet_domain.jobs.work import Slice
from quantfleet_worker.engines.base import Array, Session
from quantfleet_worker.preprocessing import tensors
from quantfleet_worker.preprocessing.configuration import Configuration, parse
from quantfleet_worker.preprocessing.preprocessor import SCALE_FACTOR, Prepared, revision
from quantfleet_worker.preprocessing.tensors import TensorPreprocessor
from quantfleet_worker.preprocessing.texts import tokenizer_version
from quantfleet_worker.tasks.workspace import Workspace


class Feeder:
    """Makes all inputs of a model, of batch 1, from a sample's bytes.

    `.npy` and `.npz` samples are tensors already; all others go through `configuration`.
    """

    def __init__(self, inputs: tuple[InputTensor, ...], configuration: Configuration) -> None:
        """Raises MODEL_UNSUPPORTED for inputs that samples of the configuration's kind do not feed."""
        self.inputs = inputs
        self.configuration = configuration
        self._configured = configuration.preprocessor(inputs)
        self._stored = TensorPreprocessor(inputs)

    @property
    def restored(self) -> bool:
        """Whether the model is told the scale factor, and so gives boxes in the picture's own pixels."""
        return any(item.name == SCALE_FACTOR for item in self.inputs)

    def prepare(self, sample: bytes, name: str) -> Prepared:
        """The inputs of one sample. Raises SAMPLE_UNREADABLE, also where a shape is not the model's."""
        stored = PurePosixPath(name).suffix.lower() in tensors.SUFFIXES
        prepared = (self._stored if stored else self._configured)(sample, name)
        for item in self.inputs:
            found = prepared.feeds[item.name].shape
            if found != item.shape:
                raise QuantfleetError(
                    ErrorCode.SAMPLE_UNREADABLE,
                    f"sample {name} becomes a tensor of shape {list(found)}, "
                    f"and input {item.name} wants {list(item.shape)}",
                    "fit the preprocessing file to the model, or give input_shapes",
                )
        return prepared

    def feeds(
        self, workspace: Workspace, part: Slice, key: Callable[[Sample], int] = lambda _: 0
    ) -> Iterator[tuple[int, Sample, dict[str, Array]]]:
        """(index, sample, arrays by input) of every sample of a slice, by `key` and then in order."""
        for index, sample, content in workspace.samples(part, key):
            yield index, sample, self.prepare(content, sample.name).feeds


def feeder(workspace: Workspace, inputs: tuple[InputTensor, ...], preprocess: FileRef | None) -> Feeder:
    """The feeder of a model. Raises PREPROCESS_INVALID, MODEL_UNSUPPORTED."""
    if preprocess is None:
        return Feeder(inputs, Configuration(TensorPreprocessor))
    return Feeder(inputs, parse(workspace.read(preprocess).decode(errors="replace")))


def inputs_of(session: Session, shapes: Sequence[InputShape]) -> tuple[InputTensor, ...]:
    """The inputs of batch 1: their shapes as the job settled them, their dtypes as the engine has them.

    Raises MODEL_UNSUPPORTED where the engine's model, quantized elsewhere, has other inputs than the submitted one.
    """
    dtypes = {name: dtype.name for name, (_, dtype) in session.inputs.items()}
    lacking = next((shape.name for shape in shapes if shape.name not in dtypes), None)
    if lacking is not None:
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"the quantized model takes {', '.join(map(repr, dtypes))}, and the job's model has input {lacking!r}",
            "give the quantized form of that very model",
        )
    return tuple(InputTensor(shape.name, shape.dims, dtypes[shape.name]) for shape in shapes)


def preprocessing_class(preprocess: FileRef | None) -> str:
    """What the numerics class says of preprocessing: the revision of code and libraries, and the file's digest."""
    if preprocess is None:
        return f"{revision()} tensors"
    tokenizer = f" {tokenizer_version()}" if preprocess.name.endswith(".json") else ""
    return f"{revision()}{tokenizer} {preprocess.digest}"
