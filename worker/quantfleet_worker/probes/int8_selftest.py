"""The INT8 self-test: is an integer matrix product really faster here than a float one? Not a benchmark of any model.

A processor's flags say which instructions exist, not that they are fast or that the engine uses them (an emulated or
a throttled core has the flags too); so both products are timed in the engine itself. It runs in a child process, and
the agent never holds the engine's memory.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np

from quantfleet_domain.hardware.facts import VnniSelfTest
from quantfleet_worker import onnxruntime_library
from quantfleet_worker.execution.outcome import Cancelled, Result
from quantfleet_worker.execution.spec import RunSpec
from quantfleet_worker.execution.supervisor import ChildRun

INT8_FAST_RATIO = 2.0
"""From this ratio on the verdict is `int8-fast`. One VNNI instruction does four times the multiply-adds of an FP32 one
of its width; the sequence of three that stands in for it without VNNI measures 1.7 to 1.9 (AVX2, Zen 3)."""

_ROWS, _INNER, _COLUMNS = 128, 512, 512
_WARMUP, _PAIRS = 5, 60
_HANDLER = "quantfleet_worker.probes.int8_selftest:time_products"


def run(core: int) -> tuple[VnniSelfTest | None, str]:
    """Time both products on one core in a child process. Returns the test, or None and why there is none."""
    for distribution in ("onnxruntime", "onnx"):
        try:
            metadata.version(distribution)
        except metadata.PackageNotFoundError:
            return None, f"{distribution} is not installed"
    outcome = ChildRun(RunSpec((core,), handler=_HANDLER)).run(b"")
    if isinstance(outcome, Result):
        return VnniSelfTest(**json.loads(outcome.payload)), ""
    return None, "cancelled" if isinstance(outcome, Cancelled) else str(outcome.error)


def time_products(_: bytes, report: Callable[[float, str], None]) -> bytes:
    """The handler: times a u8 x s8 product (MatMulInteger) and the same in FP32 (MatMul), alternating, on one thread.

    Shapes are [128, 512] x [512, 512]. Returns the fields of `VnniSelfTest` as JSON.
    """
    generator = np.random.default_rng(0)
    left = generator.integers(0, 256, (_ROWS, _INNER), np.uint8)
    right = generator.integers(-127, 128, (_INNER, _COLUMNS), np.int8)
    products = [_product("MatMulInteger", left, right), _product("MatMul", np.float32(left), np.float32(right))]
    times: list[list[int]] = [[], []]
    for step in range(_WARMUP + _PAIRS):
        for product, taken in zip(products, times, strict=True):
            start = time.perf_counter_ns()
            product()
            if step >= _WARMUP:
                taken.append(time.perf_counter_ns() - start)
    int8_ns, fp32_ns = (statistics.median(taken) for taken in times)
    report(1.0, "timed")
    return json.dumps(asdict(judge(int8_ns, fp32_ns))).encode()


def judge(int8_ns: float, fp32_ns: float) -> VnniSelfTest:
    """The verdict on two times, in nanoseconds."""
    ratio = fp32_ns / int8_ns
    return VnniSelfTest(int8_ns, fp32_ns, ratio, "int8-fast" if ratio >= INT8_FAST_RATIO else "int8-slow")


def _product(operator: str, left: Any, right: Any) -> Callable[[], Any]:
    """A session of one node whose right operand is a constant, as weights are, so that the engine may repack it."""
    from onnx import TensorProto, helper, numpy_helper

    onnxruntime = onnxruntime_library.load()
    output = TensorProto.INT32 if operator == "MatMulInteger" else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(operator, ["left", "right"], ["product"])],
        "selftest",
        [helper.make_tensor_value_info("left", helper.np_dtype_to_tensor_dtype(left.dtype), left.shape)],
        [helper.make_tensor_value_info("product", output, (_ROWS, _COLUMNS))],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {"left": left}
    return lambda: session.run(None, feeds)
