"""From samples to model inputs: the model's own preprocessing, and the one input that it feeds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Sample
from quantfleet_domain.jobs.spec import FileRef
from quantfleet_domain.jobs.work import Slice
from quantfleet_worker.preprocessing.preprocessor import Preprocessor, TensorPreprocessor, parse, revision
from quantfleet_worker.tasks.workspace import Workspace


@dataclass(frozen=True)
class Feeder:
    """Makes the input of batch 1 from a sample's bytes. `input` is the model's only input."""

    input: InputTensor
    preprocessor: Preprocessor

    def tensor(self, sample: bytes, name: str) -> NDArray[np.float32]:
        """The tensor of one sample, [1, …]. Raises SAMPLE_UNREADABLE, also where its shape is not the model's."""
        tensor = self.preprocessor(sample, name)
        if tensor.shape != self.input.shape:
            raise QuantfleetError(
                ErrorCode.SAMPLE_UNREADABLE,
                f"sample {name} becomes a tensor of shape {list(tensor.shape)}, "
                f"and input {self.input.name} wants {list(self.input.shape)}",
                "fit the preprocessing file to the model, or give input_shapes",
            )
        return tensor

    def tensors(
        self, workspace: Workspace, part: Slice, key: Callable[[Sample], int] = lambda _: 0
    ) -> Iterator[tuple[int, Sample, NDArray[np.float32]]]:
        """(index, sample, tensor) of every sample of a slice, by `key` and then in order."""
        for index, sample, content in workspace.samples(part, key):
            yield index, sample, self.tensor(content, sample.name)


def feeder(workspace: Workspace, inputs: tuple[InputTensor, ...], preprocess: FileRef | None) -> Feeder:
    """The feeder of a model. Raises PREPROCESS_INVALID, or MODEL_UNSUPPORTED for a model with several inputs."""
    if len(inputs) != 1 or inputs[0].dtype != "float32":
        found = ", ".join(f"{item.name} ({item.dtype})" for item in inputs)
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"samples feed one float32 input, and the model has {found}",
            "export the model with one float32 input",
        )
    if preprocess is None:
        return Feeder(inputs[0], TensorPreprocessor(inputs[0].shape))
    return Feeder(inputs[0], parse(workspace.read(preprocess).decode(errors="replace")))


def preprocessing_class(preprocess: FileRef | None) -> str:
    """What the numerics class says of preprocessing: the revision of code and libraries, and the file's digest."""
    return f"{revision()} {preprocess.digest if preprocess else 'tensors'}"
