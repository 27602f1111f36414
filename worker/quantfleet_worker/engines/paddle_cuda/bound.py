"""A predictor's inputs and outputs in memory that both Paddle and CUDA know, for one batch. Not for what it computes.

Paddle's own `copy_from_cpu` and `copy_to_cpu` allocate, and the latter waits for the stream; so tensors that lie on the
GPU are shared with the predictor instead (`share_external_data`, as FastDeploy does it), and copied to and from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError

from ..base import Array
from ..cuda.transfers import OnDevice

_SHARED = ("bool", "float16", "float32", "float64", "int32", "int64")
"""What Paddle shares (paddle/fluid/pybind/inference_api.cc, `PaddleTensorShareExternalData`)."""


@dataclass(frozen=True)
class PaddleMemory:
    """A tensor of Paddle's on the GPU, as CUDA sees it."""

    tensor: Any
    address: int
    nbytes: int


def allocate(paddle: Any, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> PaddleMemory:
    """A tensor on the GPU. Raises QuantfleetError(MODEL_UNSUPPORTED) for a type that Paddle does not share."""
    if dtype.name not in _SHARED:
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"tensor {name} is {dtype}, which Paddle does not let another own",
            f"export the model with one of {', '.join(_SHARED)} there",
        )
    tensor = paddle.empty(list(shape), dtype=dtype.name)
    return PaddleMemory(tensor, int(tensor.data_ptr()), int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)


class Outputs:
    """The outputs of a predictor in memory of ours, for the batch that is bound."""

    def __init__(self, paddle: Any, predictor: Any) -> None:
        self._paddle = paddle
        self._handles = {name: predictor.get_output_handle(name) for name in predictor.get_output_names()}
        self._memory: dict[str, PaddleMemory] = {}
        self._tensors: dict[str, OnDevice] = {}

    def own(self) -> Mapping[str, Array]:
        """What the run before gave, by Paddle's own copy."""
        return {name: np.asarray(handle.copy_to_cpu()) for name, handle in self._handles.items()}

    def share(self, given: Mapping[str, Array]) -> None:
        """Have the predictor write into memory of ours, for outputs of these shapes and types."""
        for name, values in given.items():
            memory = allocate(self._paddle, values.shape, values.dtype, name)
            self._handles[name].share_external_data(memory.tensor)
            self._memory[name] = memory
            self._tensors[name] = OnDevice(memory.address, values.shape, values.dtype)

    def tensors(self) -> Mapping[str, OnDevice]:
        """Where the outputs of the run before lie. Raises QuantfleetError(ENGINE_FAILED) where a shape changed."""
        for name, tensor in self._tensors.items():
            shape = tuple(self._handles[name].shape())
            if shape != tensor.shape:
                raise QuantfleetError(
                    ErrorCode.ENGINE_FAILED,
                    f"output {name} had shape {list(tensor.shape)} and now has {list(shape)} for the same input",
                    "this engine measures models whose outputs keep their shape",
                )
        return self._tensors

    def require(self, seen: Mapping[str, Array]) -> None:
        """Check that what was copied out of our memory is what the predictor says it wrote.

        Raises QuantfleetError(ENGINE_FAILED): Paddle put an output elsewhere.
        """
        for name, values in self.own().items():
            if values.tobytes() != seen[name].tobytes():
                raise QuantfleetError(
                    ErrorCode.ENGINE_FAILED,
                    f"Paddle does not write output {name} into the memory that it was given",
                    "report it with the version of Paddle; engine tensorrt runs the same model",
                )
