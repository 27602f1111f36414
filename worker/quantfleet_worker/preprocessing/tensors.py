"""Samples that are tensors already: `.npy` and `.npz` files. Not for what makes them."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.calibration.graph import InputTensor

from .geometry import Geometry
from .preprocessor import Prepared, Preprocessor, unfit, unreadable

SUFFIXES = (".npy", ".npz")


class TensorPreprocessor(Preprocessor):
    """Takes stored arrays: a `.npy` file for a model with one float32 input, else a `.npz` file with an array for each
    input under its name. An array may lack the batch dimension of 1."""

    def __init__(self, inputs: Sequence[InputTensor]) -> None:
        self._inputs = {item.name: item for item in inputs}

    def __call__(self, sample: bytes, name: str) -> Prepared:
        """See Preprocessor; dtypes and shapes are the model's. MODEL_UNSUPPORTED for one array and several inputs."""
        arrays = self._arrays(sample, name)
        if arrays.keys() != self._inputs.keys():
            wanted, found = (", ".join(sorted(names)) or "nothing" for names in (self._inputs, arrays))
            raise unreadable(name, f"it holds {found}, and the model's inputs are {wanted}")
        feeds = {key: _fitted(arrays[key], item, name) for key, item in self._inputs.items()}
        shape = (1, 1, *max(feeds.values(), key=lambda array: array.ndim).shape)
        return Prepared(feeds, Geometry.unchanged((shape[-2], shape[-1])))

    def _arrays(self, sample: bytes, name: str) -> Mapping[str, NDArray[Any]]:
        try:
            loaded = np.load(io.BytesIO(sample), allow_pickle=False)
            if not isinstance(loaded, np.ndarray):
                return dict(loaded)
        except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise unreadable(name, f"it is no .npy or .npz file ({error})") from error
        if [item.dtype for item in self._inputs.values()] != ["float32"]:
            raise unfit(tuple(self._inputs.values()), "a .npy file feeds one float32 input")
        return {next(iter(self._inputs)): loaded}


def _fitted(array: NDArray[Any], wanted: InputTensor, name: str) -> NDArray[Any]:
    if array.dtype != wanted.dtype:
        raise unreadable(name, f"for input {wanted.name} it holds {array.dtype}, not {wanted.dtype}")
    if array.shape == wanted.shape[1:]:
        array = array[np.newaxis]
    if array.shape != wanted.shape:
        problem = f"its shape is {list(array.shape)}, the model's input {wanted.name} is {list(wanted.shape)}"
        raise unreadable(name, problem)
    return np.ascontiguousarray(array)
