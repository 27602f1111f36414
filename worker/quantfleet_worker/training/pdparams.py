"""Reads a `.pdparams` file, Paddle's saved weights, without running what may hide in one. Not for writing them.

The file is a pickle, and a pickle can name any function to be called. What a state dictionary of arrays needs is three
names of numpy; this reader knows those, and every other name is an error before anything is called (law L6).
"""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.errors import ErrorCode, QuantfleetError

_RECONSTRUCT = np.zeros(1).__reduce__()[0]
_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("collections", "OrderedDict"): OrderedDict,
}


class _ArrayReader(pickle.Unpickler):
    """Builds arrays, dictionaries and plain values, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        found = _KNOWN.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no weights need")
        return found


def read_weights(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a `paddle.save(network.state_dict(), path)` by name. Raises QuantfleetError(MODEL_UNREADABLE)."""
    try:
        with path.open("rb") as file:
            found = _read(file)
        if not isinstance(found, dict):
            raise pickle.UnpicklingError("it holds no dictionary")
    except Exception as error:  # a damaged pickle raises whatever its opcodes meet
        raise QuantfleetError(
            ErrorCode.MODEL_UNREADABLE,
            f"{path} holds no weights: {error}",
            "give what paddle.save(network.state_dict(), …) wrote",
        ) from error
    # paddle 2 writes (the parameter's own name, array), and a dictionary of such names beside the arrays.
    arrays = {key: value[1] if isinstance(value, tuple) and len(value) == 2 else value for key, value in found.items()}
    return {key: value for key, value in arrays.items() if isinstance(value, np.ndarray)}


def _read(file: BinaryIO) -> Any:
    return _ArrayReader(file).load()
