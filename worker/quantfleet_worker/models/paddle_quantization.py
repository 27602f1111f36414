"""How an old-format Paddle program is quantized, read off its operators. Not for quantizing, nor for running it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from quantfleet_worker.models.paddle_program import CONVOLUTIONS, PRODUCTS, PaddleProgram

FUSED_CONVOLUTIONS = ("fused_conv2d",)
FUSED_PRODUCTS = ("fc", "fused_matmul")
LAYERS = (*CONVOLUTIONS, *FUSED_CONVOLUTIONS, *PRODUCTS, *FUSED_PRODUCTS)


class Quantization(StrEnum):
    """How a program is quantized.

    `static` has scales of activations, as `quantize_linear` and `dequantize_linear` (PaddleSlim's `onnx_format=True`)
    or as `fake_quantize_*` and `fake_dequantize_*` operators. `converted` is such a program after
    `Quant2Int8OnednnPass`, which `save_quant_model.py` runs: operators of oneDNN with their own INT8 attributes.
    `dynamic` has scales of weights alone (`quant_post_dynamic`). `layered` is what `paddle.quantization` converts
    layer by layer: like `static`, but its scales are tensors without a dimension.
    """

    NONE = "none"
    STATIC = "static"
    CONVERTED = "converted"
    DYNAMIC = "dynamic"
    LAYERED = "layered"


@dataclass(frozen=True)
class QuantizedLayers:
    """The convolutions and matrix products with a constant weight, as (output, operator type): those that the program
    quantizes and those in float."""

    how: Quantization
    quantized: tuple[tuple[str, str], ...]
    in_float: tuple[tuple[str, str], ...]


def quantized_layers(block: Any) -> QuantizedLayers:
    """Which layers a program's main block quantizes, in the order in which they run."""
    how, quantized, in_float = Quantization.NONE, [], []
    constants = {name for name, variable in block.vars.items() if variable.persistable}
    quantized_constants, codes = set[str](), set[str]()
    for operator in block.ops:
        inputs, outputs = operator.input_arg_names, operator.output_arg_names
        if operator.type in ("quantize", "dequantize", "requantize"):
            how = Quantization.CONVERTED
        elif "quantize" in operator.type:
            if operator.type == "quantize_linear" and block.var(operator.input("Scale")[0]).shape == ():
                how = Quantization.LAYERED
            if operator.input("X")[0] in constants | quantized_constants:
                quantized_constants.update(outputs)
            elif "dequantize" not in operator.type:
                codes.update(outputs)
        elif operator.type in LAYERS and (constants | quantized_constants).intersection(inputs):
            layer = (outputs[0], operator.type)
            if _scales_weights_only(operator):
                how = Quantization.DYNAMIC
            if quantized_constants.intersection(inputs) or codes.intersection(inputs) or _runs_int8(operator):
                quantized.append(layer)
            else:
                in_float.append(layer)
    if how is Quantization.NONE and quantized:
        how = Quantization.STATIC
    return QuantizedLayers(how, tuple(quantized), tuple(in_float))


def integer_filters(program: PaddleProgram) -> bool:
    """Whether the filters of a converted program's convolutions are stored as integers, not only meant to be."""
    return any(
        program.parameter(operator.input("Filter")[0]).dtype.kind == "i"
        for operator in program.operators
        if operator.type in (*CONVOLUTIONS, *FUSED_CONVOLUTIONS)
    )


def _scales_weights_only(operator: Any) -> bool:
    return _text(operator, "quantization_type").startswith("post_weight_")


def _runs_int8(operator: Any) -> bool:
    return _text(operator, "mkldnn_data_type") == "int8"


def _text(operator: Any, attribute: str) -> str:
    return str(operator.attr(attribute)) if operator.has_attr(attribute) else ""
