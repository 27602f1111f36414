"""Which layers of a Paddle program run in INT8, by a scale table and corrections. Not for writing any format."""

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantfleet_domain.calibration.correction import FormCorrections
from quantfleet_domain.calibration.forms import weight_scales
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_program import CONVOLUTIONS, PRODUCTS, Array, PaddleProgram
from quantfleet_worker.quantizers.paddle_connected import float_products
from quantfleet_worker.quantizers.paddle_ranges import LEVELS, operands, output_of

UNSCALED = "the scale table lacks its input or its weight"


@dataclass(frozen=True)
class QuantizedProgram:
    """A written INT8 program: `int8_nodes` are the operators meant for INT8, by output, `float_nodes` the rest with
    reasons; both of the convolutions and matrix products with constant weights."""

    path: Path
    form: str
    int8_nodes: tuple[str, ...]
    float_nodes: tuple[str, ...]


@dataclass(frozen=True)
class ChosenLayers:
    """`int8` are the layers' outputs; `in_float` says of the rest, by output, why, of those with constant weights."""

    int8: tuple[str, ...]
    in_float: tuple[str, ...]


def choose(
    program: PaddleProgram,
    known: Container[str],
    weights: Mapping[str, Array],
    table: ScaleTable,
    corrections: FormCorrections,
    model: Path,
) -> ChosenLayers:
    """The layers whose input is in `known` and whose weight in `weights`, save `float_products` and the excluded ones.

    `weights` are `weight_peaks` of the table; `model` is what an error names. Raises QuantfleetError(SCALES_INVALID)
    where the table and the model have nothing in common or differ in channels, or where every layer is excluded.
    """
    native = {row.tensor: row.native_name for row in table.weights}
    excluded = {native.get(layer.weight): layer.sqnr_db for layer in corrections.excluded}
    products = float_products(program)
    int8, in_float = [], []
    for operator in program.operators:
        if operator.type not in (*CONVOLUTIONS, *PRODUCTS):
            continue
        (activation, weight), name = operands(operator), output_of(operator)
        reason = None
        if name in products:
            reason = products[name]
        elif activation not in known or weight not in weights:
            reason = UNSCALED
        elif weight in excluded:
            reason = f"excluded: its own SQNR of {excluded[weight]} dB is below the limit"
        if reason is None:
            _check_weight(program, operator, weight, weights[weight])
            int8.append(name)
        elif program.is_parameter(weight):
            in_float.append(f"{name}: {reason}")
    if not int8 and excluded:
        raise QuantfleetError(
            ErrorCode.SCALES_INVALID,
            f"every layer of the Paddle model in {model} is excluded from INT8, each for its own SQNR",
            "exclude less, or use the model in float",
        )
    if not int8:
        raise QuantfleetError(
            ErrorCode.SCALES_INVALID,
            f"the scale table has the input and weight of no layer of the Paddle model in {model}",
            "calibrate this model itself",
        )
    return ChosenLayers(tuple(int8), tuple(in_float))


def weight_peaks(table: ScaleTable) -> dict[str, Array]:
    """The largest magnitude that each output channel's codes reach, float32, by the native name of the weight."""
    return {
        row.native_name: weight_scales(row.absmax) * np.float32(LEVELS)
        for row in table.weights
        if row.native_name is not None
    }


def bias_deltas(corrections: FormCorrections, table: ScaleTable) -> dict[str, Array]:
    """The corrections by the native names of the weights, where a weight is one layer's alone."""
    layers = Counter(layer.weight for layer in (*corrections.layers, *corrections.excluded))
    rows = Counter(row.native_name for row in table.weights)
    native = {row.tensor: row.native_name for row in table.weights if rows[row.native_name] == layers[row.tensor] == 1}
    return {
        name: np.array(layer.delta, np.float32)
        for layer in corrections.layers
        if (name := native.get(layer.weight)) is not None
    }


def _check_weight(program: PaddleProgram, operator: Any, name: str, peaks: Array) -> None:
    shape = program.parameter(name).shape
    channels = shape[0] if operator.type in CONVOLUTIONS else shape[-1]
    if len(peaks) != channels:
        raise QuantfleetError(
            ErrorCode.SCALES_INVALID,
            f"weight {name} has {channels} output channels, and the scale table has {len(peaks)}",
            "use a scale table made from this model",
        )
