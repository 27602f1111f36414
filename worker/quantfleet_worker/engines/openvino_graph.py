"""What OpenVINO executes, from the graph that the compiled model shows of itself. Not for latencies.

`CompiledModel.get_runtime_model` has a node a kernel, with `layerType`, `primitiveType` (the kernel, such as
`brgconv_avx512_1x1_I8`, which ends in the precision of its arithmetic), `originalLayersNames` (the model's nodes that
it covers), `outputPrecisions` and, with PERF_COUNT, `execTimeMcs` (its mean time in microseconds);
openvino/src/core/include/openvino/runtime/exec_model_info.hpp.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from quantfleet_domain.jobs.measured import Conversion

_PRODUCTS = {"Convolution", "Deconvolution", "FullyConnected", "MatMul"}
_CONVERSIONS = {"Convert", "FakeQuantize", "Reorder"}
_FUSED, _ELEMENTWISE = "Subgraph", "Eltwise"
_PARTS = re.compile(r"(/WithoutBiases|/Dequantization\w+)+$")
_RUNS = 10


@dataclass(frozen=True)
class Kernel:
    """A node of the executed graph. `covers` are names of the model's nodes, `constants` the precisions of its constant
    inputs; `microseconds` is its mean time so far."""

    name: str
    kind: str
    implementation: str
    covers: frozenset[str]
    constants: frozenset[str]
    microseconds: int

    def computes_products_in(self, precision: str) -> bool:
        """Whether it is a product in this precision, or many nodes fused with matrices in it (`bf16`, `i8`)."""
        if self.kind == _FUSED:
            return precision in self.constants
        return self.kind in _PRODUCTS and self.implementation.lower().endswith(f"_{precision}")

    def is_conversion(self, operators: Mapping[str, str]) -> bool:
        """Whether it changes a layout or converts between integers and floats and does nothing else.

        `operators` has the types of the model's nodes by name.
        """
        if self.kind not in (_FUSED, _ELEMENTWISE):
            return self.kind in _CONVERSIONS
        known = {operators[name] for name in self.covers if name in operators}
        if not known:  # OpenVINO took a QuantizeLinear or DequantizeLinear apart and named the parts
            return any(name.startswith("Convert_") for name in self.covers)
        return known <= {"DequantizeLinear", "QuantizeLinear"}


def kernels(compiled: Any) -> tuple[Kernel, ...]:
    """The kernels of a compiled model that run at every inference, in order; what is constant is computed once."""
    constants: dict[str, str] = {}
    found = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        facts = {key: value.astype(str) for key, value in node.get_rt_info().items() if hasattr(value, "astype")}
        name, kind, took = node.get_friendly_name(), facts["layerType"], facts["execTimeMcs"]
        sources = [source.get_node().get_friendly_name() for source in node.input_values()]
        if kind == "Const" or (sources and constants.keys() >= set(sources)):
            constants[name] = facts["outputPrecisions"]
            continue
        covers = (name, *facts["originalLayersNames"].split(","))
        found.append(
            Kernel(
                name=name,
                kind=kind,
                implementation=facts["primitiveType"],
                covers=frozenset(_PARTS.sub("", item) for item in covers if item),
                constants=frozenset(constants[source] for source in sources if source in constants),
                microseconds=int(took) if took.isdigit() else 0,
            )
        )
    return tuple(found)


def products_in(precision: str, compiled: Any) -> frozenset[str]:
    """The names of the model's nodes that are computed in products of this precision (`bf16`, `i8`), or with them."""
    covered = [kernel.covers for kernel in kernels(compiled) if kernel.computes_products_in(precision)]
    return frozenset().union(*covered)


def conversions(compiled: Any, infer: Callable[[], object], operators: Mapping[str, str]) -> tuple[Conversion, ...]:
    """Changes of layout and conversions between integers and floats, with their share of all kernels' time.

    `compiled` has PERF_COUNT on and has inferred once, by `infer`; that first time also prepares weights, and is not
    in the shares. `operators` has the types of the model's nodes by name.
    """
    first = {kernel.name: kernel.microseconds for kernel in kernels(compiled)}
    for _ in range(_RUNS):
        infer()
    found: dict[str, list[int]] = {}
    total = 0
    for kernel in kernels(compiled):
        taken = max(0, kernel.microseconds * (1 + _RUNS) - first[kernel.name])
        total += taken
        # Where even the first run took no time, OpenVINO only looks at the same memory in another way.
        if first[kernel.name] and kernel.is_conversion(operators):
            found.setdefault(_label(kernel), []).append(taken)
    return tuple(
        Conversion(label, len(times), sum(times) / total if total else None) for label, times in sorted(found.items())
    )


def _label(kernel: Kernel) -> str:
    return kernel.kind if kernel.kind in _CONVERSIONS else f"{kernel.kind} (quantize, dequantize)"
