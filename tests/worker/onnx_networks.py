"""Small ONNX networks for the worker's tests, with random weights of a fixed seed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantfleet_domain.calibration.calibrators import calibrator_named
from quantfleet_domain.calibration.graph import CalibrationGraph, NumericsClass
from quantfleet_domain.calibration.partial import PartialAccumulator
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_worker.models.reference_run import ReferenceRun

CLASSES = 10


def pictures(count: int, size: int = 32, seed: int = 7) -> list[NDArray[np.float32]]:
    """Smooth random pictures, float32 [1, 3, size, size] each."""
    generator = np.random.default_rng(seed)
    coarse = generator.standard_normal((count, 1, 3, size // 4, size // 4)).astype(np.float32)
    return [np.kron(picture, np.ones((1, 1, 4, 4), np.float32)) for picture in coarse]


class NetworkBuilder:
    """Adds layers one after the other; every method returns the name of its output."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, name: str, values: NDArray[Any] | np.generic) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{output}_node", **attributes))
        return output

    def convolution(
        self, source: str, name: str, inner: int, outer: int, kernel: int = 3, *, group: int = 1, bias: bool = True
    ) -> str:
        fan_in = inner // group * kernel * kernel
        weight = self.generator.standard_normal((outer, inner // group, kernel, kernel)) * np.sqrt(2 / fan_in)
        inputs = [source, self.constant(f"{name}.w", weight.astype(np.float32))]
        if bias:
            inputs.append(self.constant(f"{name}.b", self.generator.standard_normal(outer).astype(np.float32) * 0.1))
        pads = [kernel // 2] * 4
        return self.node("Conv", inputs, name, kernel_shape=[kernel, kernel], pads=pads, group=group)

    def normalization(self, source: str, name: str, channels: int) -> str:
        draws = self.generator.uniform(0.5, 1.5, (4, channels)).astype(np.float32)
        inputs = [self.constant(f"{name}.{part}", row) for part, row in zip(("g", "b", "m", "v"), draws, strict=True)]
        return self.node("BatchNormalization", [source, *inputs], name, epsilon=1e-3)

    def output(self, name: str, shape: Sequence[str | int] | None) -> onnx.ValueInfoProto:
        """A float32 output whose shape is inferred, or an int64 one of a given shape."""
        if shape is None:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_tensor_value_info(name, TensorProto.INT64, list(shape))

    def model(
        self,
        output: str,
        shape: Sequence[str | int] = ("N", 3, 32, 32),
        opset: int = 13,
        output_shape: Sequence[str | int] | None = None,
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, list(shape))],
            [self.output(output, output_shape)],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        checked: onnx.ModelProto = onnx.shape_inference.infer_shapes(model)
        del checked.graph.value_info[:]
        onnx.checker.check_model(checked)
        return checked


def classifier() -> onnx.ModelProto:
    """Conv-BN-Relu, a depthwise Conv with Relu6, a residual Add, Concat, pools, Gemm and Softmax."""
    net = NetworkBuilder()
    stem = net.normalization(net.convolution("image", "stem", 3, 16, bias=False), "stem.bn", 16)
    stem = net.node("Relu", [stem], "stem.relu")
    pooled = net.node("MaxPool", [stem], "pooled", kernel_shape=[2, 2], strides=[2, 2])
    limits = [net.constant("zero", np.float32(0)), net.constant("six", np.float32(6))]
    deep = net.node("Clip", [net.convolution(pooled, "deep", 16, 16, group=16), *limits], "deep.relu6")
    wide = net.convolution(deep, "wide", 16, 16, kernel=1)
    total = net.node("Relu", [net.node("Add", [wide, pooled], "sum")], "sum.relu")
    side = net.node("Relu", [net.convolution(total, "side", 16, 8)], "side.relu")
    joined = net.node("Concat", [total, side], "joined", axis=1)
    averaged = net.node("GlobalAveragePool", [joined], "averaged")
    flat = net.node("Flatten", [averaged], "flat")
    weight = net.generator.standard_normal((CLASSES, 24)).astype(np.float32) * 0.5
    inputs = [flat, net.constant("fc.w", weight), net.constant("fc.b", np.zeros(CLASSES, np.float32))]
    logits = net.node("Gemm", inputs, "logits", transB=1)
    return net.model(net.node("Softmax", [logits], "probabilities"))


def saved(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def calibrated(reference: Path, graph: CalibrationGraph, samples: list[NDArray[np.float32]]) -> ScaleTable:
    """The absmax scale table of some samples of the only input."""
    return calibrated_on(reference, graph, [{graph.inputs[0].name: sample} for sample in samples])


def calibrated_on(reference: Path, graph: CalibrationGraph, feeds: Sequence[Mapping[str, Any]]) -> ScaleTable:
    """The absmax scale table of some samples."""
    numerics = NumericsClass("onnxruntime-cpu", "1", "test", "0" * 64, graph.recipe, "none", 1)
    accumulator = PartialAccumulator(numerics, graph.activations)
    run = ReferenceRun(reference, graph)
    for index, sample in enumerate(feeds):
        accumulator.observe(index, str(index), dict(run.activations(sample)))
    return ScaleTable.build(
        accumulator.partial(), graph, calibrator_named("absmax"), manifest="0" * 64, preprocessing="0" * 64
    )
