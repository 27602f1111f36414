"""How much of a model TensorRT runs in INT8 inside Paddle, from Paddle's program and TensorRT's inspector. Pure.

`Config.enable_tensorrt_inspector(True)` has Paddle write `_opt_cache/engine_info_KEY.json` for every engine: a list of
what TensorRT's inspector says of each layer (engine.cc, `GetEngineInfo`). Paddle names a TensorRT layer
`TYPE (Output: TENSOR, …)`, and TensorRT joins the names of the layers that it fuses (convert/op_converter.h,
`ReplenishLayerAndOutput`).
"""

import json
import re
from collections.abc import Mapping, Sequence

from quantfleet_worker.models.paddle_quantization import QuantizedLayers

from ..base import NodeCounts
from ..trt.layers import Layer, conversions, read_layers
from .program import OptimizedProgram, original

_OUTPUTS = re.compile(r"\(Output: ([^)]*)\)")


def read_engine_info(text: str) -> tuple[Layer, ...]:
    """The layers of an `engine_info_KEY.json`. Raises ValueError for what is none."""
    return read_layers(json.dumps({"Layers": json.loads(text)}))


def count(
    program: OptimizedProgram, layers: Sequence[Layer], meant: QuantizedLayers, biased: Mapping[str, str]
) -> NodeCounts:
    """`layers` are those of all engines; `meant` is what the model's program says of its own layers, and `biased` its
    `program.behind_biases`."""
    computed = {name: layer for layer in layers for name in _covered(layer)}
    inside = {original(name) for graph in program.subgraphs for item in graph.operators for name in item.outputs}
    ran, fallbacks = [], []
    for name, kind in meant.quantized:
        label, names = f"{name} ({kind})", (name, biased.get(name, name))
        layer = next((computed[item] for item in names if item in computed), None)
        if layer is not None and layer.in_int8:
            ran.append(label)
        elif layer is not None:
            fallbacks.append(f"{label}: TensorRT chose a kernel in {layer.precision or 'a precision that it keeps'}")
        elif inside.isdisjoint(names):
            fallbacks.append(f"{label}: Paddle left it out of TensorRT")
        else:
            fallbacks.append(f"{label}: TensorRT has no layer of that name, so its precision is unknown")
    fallbacks += [f"{name} ({kind}): the quantizer left its weight in float" for name, kind in meant.in_float]
    total = len(meant.quantized) + len(meant.in_float)
    return NodeCounts(len(ran), total, tuple(fallbacks), tuple(ran), conversions(layers, {}))


def engine_shares(program: OptimizedProgram) -> Mapping[str, str]:
    """How many engines there are, and how many operators went into them and stayed out, as settings."""
    inside = sum(len(subgraph.operators) for subgraph in program.subgraphs)
    outside = ", ".join(sorted({operator.type for operator in program.outside}))
    return {
        "tensorrt_engines": str(len(program.subgraphs)),
        "operators_in_tensorrt": str(inside),
        "operators_outside": f"{len(program.outside)} ({outside})" if outside else "0",
    }


def _covered(layer: Layer) -> set[str]:
    return {original(name) for outputs in _OUTPUTS.findall(layer.name) for name in outputs.split(", ")}
