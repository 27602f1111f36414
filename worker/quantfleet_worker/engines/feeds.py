"""Checks the arrays that a session is given against the inputs of its model. Not for making them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError

from .base import Array

Inputs = Mapping[str, tuple[tuple[int | None, ...], np.dtype[Any]]]
"""Shape (None for a dynamic dimension) and dtype by name, as `Session.inputs`."""


def check(inputs: Inputs, feeds: Mapping[str, Array]) -> None:
    """Raises QuantfleetError(ENGINE_FAILED) where names, shapes or dtypes differ; it names the input."""
    if feeds.keys() != inputs.keys():
        raise _misfit(f"inputs are {', '.join(inputs)}; given are {', '.join(feeds) or 'none'}")
    for name, (shape, dtype) in inputs.items():
        given = feeds[name]
        fits = len(given.shape) == len(shape) and all(
            wanted in (None, extent) for wanted, extent in zip(shape, given.shape, strict=True)
        )
        if not fits or given.dtype != dtype:
            raise _misfit(
                f"input {name} is {dtype} {list(shape)} (None: any); given is {given.dtype} {list(given.shape)}"
            )


def zeros(inputs: Inputs) -> dict[str, Array]:
    """An array for every input, with 1 for a dynamic dimension: for looking at a model that nothing was bound to."""
    return {name: np.zeros([extent or 1 for extent in shape], dtype) for name, (shape, dtype) in inputs.items()}


def _misfit(problem: str) -> QuantfleetError:
    return QuantfleetError(ErrorCode.ENGINE_FAILED, problem, "give arrays of the model's shapes and dtypes")
