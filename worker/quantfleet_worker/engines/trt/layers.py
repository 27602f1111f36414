"""Which layers of a TensorRT engine compute in INT8, from what its inspector says. Pure: not for asking it.

`IEngineInspector.get_engine_information(JSON)` of an engine built with ProfilingVerbosity.DETAILED is an object with
`Layers`, each with `Name`, `LayerType`, `Inputs` and `Outputs` (a list of tensors with `Format/Datatype`), for products
of older kernels `Weights` with a `Type`, mostly a `TacticName`, and `Metadata` with `[ONNX Layer: name]` for every node
of the file that it covers, between control characters. With less verbosity a layer is its name alone. A layer's name
joins those of its nodes by ` + `, puts pointwise ones into `PWN(…)`, and is no list of nodes where the compiler of
large graphs made it (`kgen`). Sources: NVIDIA/TensorRT, tools/experimental/trt-engine-explorer (`trex/activations.py`
and the engines in `tests/inputs`), and its successor of 11.1, `scripts/trt_perf/layer_info.py`.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantfleet_domain.jobs.measured import Conversion

_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_POINTWISE = re.compile(r"PWN\((.*)\)")
_JOINTS = re.compile(r" \+ | \|\| ")
_TYPE = re.compile(r"\b(?:BFloat16|BF16|Bool|Float|FP16|FP32|FP8|Half|INT32|Int32|INT64|Int64|INT8|Int8|UInt8)\b")
_NAMES = {"Float": "fp32", "FP32": "fp32", "FP16": "fp16", "Half": "fp16", "BFloat16": "bf16"}
_INT8_TACTIC = re.compile(r"i8i8|int8|imma", re.IGNORECASE)
_REFORMAT = "Reformat"


@dataclass(frozen=True)
class Layer:
    """A layer of a built engine. `covers` are names of the model's nodes; types are `int8`, `fp16`, `fp32`, … or, where
    nothing is said, empty; `weights` is the type of its weights."""

    name: str
    kind: str
    covers: frozenset[str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: str
    tactic: str

    @property
    def in_int8(self) -> bool:
        """Whether it multiplies integers. Its weights decide; without them its kernel's name; else its first input."""
        if self.kind == _REFORMAT:
            return False
        if self.weights:
            return self.weights == "int8"
        return bool(_INT8_TACTIC.search(self.tactic)) or self.inputs[:1] == ("int8",)

    @property
    def precision(self) -> str:
        """What it computes in: `int8`, or the type of its weights or first input."""
        return "int8" if self.in_int8 else self.weights or next(iter(self.inputs), "")


def read_layers(information: str) -> tuple[Layer, ...]:
    """The layers in order. Raises ValueError for what is no engine information."""
    try:
        layers = json.loads(information)["Layers"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"no layers in the engine information: {information[:80]!r}") from error
    return tuple(_layer(item) for item in layers)


def int8_nodes(layers: Sequence[Layer]) -> frozenset[str]:
    """The names of the model's nodes that layers in INT8 cover."""
    return frozenset().union(*(layer.covers for layer in layers if layer.in_int8))


def precision_of(layers: Sequence[Layer], node: str) -> str:
    """The precision of the layer that covers a node, empty where none is known to."""
    return next((layer.precision for layer in layers if node in layer.covers), "")


def precisions(layers: Sequence[Layer]) -> str:
    """How many layers compute in what, as words: `int8 20, fp32 3`."""
    counts = Counter(layer.precision or "unknown" for layer in layers if layer.kind != _REFORMAT)
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def conversions(layers: Sequence[Layer], milliseconds: Mapping[str, float]) -> tuple[Conversion, ...]:
    """The layers that only change a layout or a type, with their share of all layers' time where that was taken."""
    inserted = [layer for layer in layers if layer.kind == _REFORMAT]
    if not inserted:
        return ()
    total = sum(milliseconds.values())
    share = sum(milliseconds.get(layer.name, 0.0) for layer in inserted) / total if total else None
    return (Conversion(_REFORMAT, len(inserted), share),)


def _layer(item: Any) -> Layer:
    if isinstance(item, str):
        return Layer(item, "", _covered(item, ""), (), (), "", "")
    name = str(item.get("Name", ""))
    weights = item.get("Weights")
    return Layer(
        name=name,
        kind=str(item.get("LayerType", "")),
        covers=_covered(name, str(item.get("Metadata", ""))),
        inputs=_types(item.get("Inputs")),
        outputs=_types(item.get("Outputs")),
        weights=_type(str(weights.get("Type", ""))) if isinstance(weights, dict) else "",
        tactic=str(item.get("TacticName", "")),
    )


def _covered(name: str, metadata: str) -> frozenset[str]:
    names = set(_ONNX_LAYER.findall(metadata))
    for part in _JOINTS.split(name):
        pointwise = _POINTWISE.fullmatch(part)
        names.update(pointwise[1].split(", ") if pointwise else (part,))
    return frozenset(names - {""})


def _types(tensors: Any) -> tuple[str, ...]:
    return tuple(_type(str(tensor.get("Format/Datatype", ""))) for tensor in tensors or () if isinstance(tensor, dict))


def _type(text: str) -> str:
    found = _TYPE.search(text)
    return "" if found is None else _NAMES.get(found[0], found[0].lower())
