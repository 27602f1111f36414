"""Settles an ONNX model's input shapes: the batch axis stays free, every other axis gets a number. Not for data."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import ModelProto, ValueInfoProto

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_domain.errors import ErrorCode, QuantfleetError

_BATCH = "batch"
_EXAMPLE_EXTENT = 224


def settle_inputs(model: ModelProto, input_shapes: Mapping[str, tuple[int, ...]]) -> tuple[InputTensor, ...]:
    """Write `input_shapes` (by input, batch axis first) into the model and return its inputs, with a batch of 1.

    A free batch axis stays free, a fixed one fixed. A given shape takes precedence over the model's own beyond the
    channels. Raises QuantfleetError: SHAPE_MISSING where an axis other than the batch has no extent, JOB_INVALID where
    a given shape does not fit.
    """
    constants = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    unknown = sorted(set(input_shapes) - {item.name for item in inputs})
    if unknown:
        names = ", ".join(item.name for item in inputs)
        raise QuantfleetError(
            ErrorCode.JOB_INVALID,
            f"input_shapes.{unknown[0]}: the model has no such input",
            f"its inputs are: {names}",
        )
    return tuple(_settle(item, input_shapes.get(item.name)) for item in model.graph.input)


def _settle(item: ValueInfoProto, given: tuple[int, ...] | None) -> InputTensor:
    name = item.name
    dimensions = item.type.tensor_type.shape.dim
    if not item.type.tensor_type.HasField("shape") or not dimensions:
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"input {name} has no shape with a batch axis",
            "export the model with the rank of its inputs",
        )
    if given is not None and len(given) != len(dimensions):
        raise _misfit(name, f"has {len(given)} axes, the model's input has {len(dimensions)}")
    shape = [1]
    for axis, dimension in enumerate(dimensions):
        known = dimension.dim_value if dimension.HasField("dim_value") and dimension.dim_value > 0 else None
        if axis == 0:
            if known is None:
                symbol = dimension.dim_param or _BATCH  # its own name ties it to the model's outputs
                dimension.Clear()
                dimension.dim_param = symbol
            continue
        asked = given[axis] if given is not None else known
        if asked is None:
            example = [1, *(other.dim_value or _EXAMPLE_EXTENT for other in dimensions[1:])]
            symbol = dimension.dim_param or "no name"
            raise QuantfleetError(
                ErrorCode.SHAPE_MISSING,
                f"input {name}: the extent of axis {axis} ({symbol}) is not in the model",
                f"write it in the job, for example input_shapes: {{{name}: {example}}}",
            )
        # A converted model may state one resolution and run at any; its channels are what its weights say.
        if asked < 1 or (axis == 1 and known is not None and asked != known):
            raise _misfit(name, f"says {asked} for axis {axis}, where the model has {known or 'a free axis'}")
        dimension.Clear()
        dimension.dim_value = asked
        shape.append(asked)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type))
    return InputTensor(name, tuple(shape), dtype.name)


def _misfit(name: str, problem: str) -> QuantfleetError:
    return QuantfleetError(ErrorCode.JOB_INVALID, f"input_shapes.{name}: {problem}", "correct the shape in the job")
