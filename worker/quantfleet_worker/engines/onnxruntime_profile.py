"""What ONNX Runtime executed, from the trace of its own profiler. Not for latencies: profiling slows a run.

The trace is a JSON list of Chrome trace events: one `model_run` a run, and one a kernel, whose name is
`<node>_kernel_time`; https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantfleet_domain.jobs.measured import Conversion

_SUFFIX = "_kernel_time"
_COPY = re.compile(r"_token_\d+$")
_CONVERSIONS = {"DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear", "ReorderInput", "ReorderOutput"}
_INT8 = {"ConvInteger", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat"}
_INT8 |= {"QGemm", "QLinearConv", "QLinearMatMul"}


@dataclass(frozen=True)
class _Kernel:
    node: str
    operator: str
    microseconds: int
    integers_to_float: bool


class Profile:
    """The kernels of the last `runs` runs of a trace."""

    def __init__(self, trace: Path, runs: int) -> None:
        events = json.loads(trace.read_text())
        first = sorted(event["ts"] for event in events if event["name"] == "model_run")[-runs]
        self._runs = runs
        self._kernels = [
            _kernel(event) for event in events if event["name"].endswith(_SUFFIX) and event["ts"] >= first
        ]  # fmt: skip

    def int8_nodes(self) -> frozenset[str]:
        """The names of the nodes that ran in an INT8 kernel; the passes that change layouts rebuild a node under its
        name and a number, and then it is here under both names."""
        names = [kernel.node for kernel in self._kernels if kernel.operator in _INT8]
        return frozenset((*names, *(_COPY.sub("", name) for name in names)))

    def conversions(self, node_names: Collection[str]) -> tuple[Conversion, ...]:
        """Changes of layout and conversions between integers and float, with their share of all kernels' time.

        `node_names` are the model's own nodes: what it transposes itself is no conversion.
        """
        total = sum(kernel.microseconds for kernel in self._kernels)
        found: dict[str, list[int]] = {}
        for kernel in self._kernels:
            inserted = kernel.operator == "Transpose" and kernel.node not in node_names
            if kernel.operator in _CONVERSIONS or inserted or kernel.integers_to_float:
                found.setdefault(kernel.operator, []).append(kernel.microseconds)
        return tuple(
            Conversion(operator, len(times) // self._runs, sum(times) / total if total else None)
            for operator, times in sorted(found.items())
        )


def _kernel(event: dict[str, Any]) -> _Kernel:
    arguments = event["args"]
    given, made = (
        {kind for item in arguments.get(f"{end}_type_shape", ()) for kind in item} for end in ("input", "output")
    )
    return _Kernel(
        node=event["name"].removesuffix(_SUFFIX),
        operator=arguments["op_name"],
        microseconds=event["dur"],
        integers_to_float=arguments["op_name"] == "Cast" and given == {"int32"} and made == {"float"},
    )
