"""Turns a sample's bytes into a model's inputs. Not for reading the file that says how, nor for fetching samples."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_domain.errors import ErrorCode, QuantfleetError

from . import operators
from .geometry import Geometry
from .operators import Operator, Picture, SampleMismatchError

_REVISION = 1  # counts up whenever a change here can move a bit of an input tensor
IM_SHAPE, SCALE_FACTOR = "im_shape", "scale_factor"


def revision() -> str:
    """What can move a bit of an input tensor besides the file itself: our revision and the libraries that compute."""
    return f"preprocessing-{_REVISION} opencv-{operators.opencv().__version__} numpy-{np.__version__}"


@dataclass(frozen=True)
class Prepared:
    """A sample as the model takes it: C-contiguous arrays with a batch dimension of 1 by input, and how its picture
    lies in them. Tensors and texts are their own picture, of as many rows and columns as their last axes have."""

    feeds: dict[str, NDArray[Any]]
    geometry: Geometry


class Preprocessor(ABC):
    """Maps one sample to all inputs of one model."""

    @abstractmethod
    def __call__(self, sample: bytes, name: str) -> Prepared:
        """The sample called `name` as inputs. Raises QuantfleetError(SAMPLE_UNREADABLE), naming the sample."""


@dataclass(frozen=True)
class PictureSteps:
    """Decodes a picture and applies `steps` to it in order; the last of them leave it float32 [C, H, W]."""

    to_rgb: bool
    steps: tuple[Operator, ...]

    def __call__(self, sample: bytes, name: str) -> Picture:
        """The picture called `name`. Raises QuantfleetError(SAMPLE_UNREADABLE)."""
        try:
            picture = operators.decode(sample, to_rgb=self.to_rgb)
            for step in self.steps:
                picture = step(picture)
        except SampleMismatchError as error:
            raise unreadable(name, str(error)) from error
        return picture


class PicturePreprocessor(Preprocessor):
    """Feeds pictures. Inputs called `im_shape` and `scale_factor`, [1, 2] each, get what PaddleDetection's models want
    there: height and width after scaling, and the two ratios. The one other input gets the picture."""

    def __init__(self, steps: PictureSteps, inputs: Sequence[InputTensor]) -> None:
        """Raises QuantfleetError(MODEL_UNSUPPORTED) for inputs that a picture does not feed."""
        self._steps = steps
        self._inputs = {item.name for item in inputs}
        pictures = [item for item in inputs if item.name not in (IM_SHAPE, SCALE_FACTOR)]
        if len(pictures) != 1 or any(item.dtype != "float32" for item in inputs):
            raise unfit(inputs, "a picture feeds one float32 input, and im_shape and scale_factor beside it")
        self._picture = pictures[0].name

    def __call__(self, sample: bytes, name: str) -> Prepared:
        """See Preprocessor; the picture is float32 [1, C, H, W]."""
        picture = self._steps(sample, name)
        found = {
            self._picture: np.ascontiguousarray(picture.image[np.newaxis], dtype=np.float32),
            IM_SHAPE: np.array([picture.geometry.content], np.float32),
            SCALE_FACTOR: np.array([picture.geometry.scale], np.float32),
        }
        return Prepared({key: value for key, value in found.items() if key in self._inputs}, picture.geometry)


def unreadable(name: str, problem: str) -> QuantfleetError:
    """The error for a sample that cannot be used."""
    return QuantfleetError(
        ErrorCode.SAMPLE_UNREADABLE, f"sample {name}: {problem}", "repair it or take it out of the data"
    )


def unfit(inputs: Sequence[InputTensor], rule: str) -> QuantfleetError:
    """The error for a model whose inputs a kind of sample does not feed, by that `rule`."""
    found = ", ".join(f"{item.name} ({item.dtype} {list(item.shape)})" for item in inputs)
    return QuantfleetError(
        ErrorCode.MODEL_UNSUPPORTED,
        f"{rule}; the model has {found}",
        "bring the samples as .npz files with an array for each input, or export the model with such inputs",
    )
