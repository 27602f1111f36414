"""A MatMul and the Add of its bias are one Gemm in the reference graph, where the engine finds an INT8 product."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantfleet_domain.calibration.calibrators import calibrator_named
from quantfleet_domain.calibration.graph import NumericsClass
from quantfleet_domain.calibration.partial import PartialAccumulator
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_worker.engines.base import LoadOptions
from quantfleet_worker.engines.registry import engine_named
from quantfleet_worker.models.onnx_model import inspect
from quantfleet_worker.models.reference_run import ReferenceRun
from quantfleet_worker.quantizers import onnx_qdq

RANDOM = np.random.default_rng(3)


def perceptron(path: Path, bias_shape: tuple[int, ...] = (8,), *, expose: bool = False) -> Path:
    """Two dense layers; `expose` makes the first product an output of the model, too."""
    first, second = (RANDOM.standard_normal((16, 8 * (i + 1)), np.float32) for i in range(2))
    weights = [
        numpy_helper.from_array(first, "w0"),
        numpy_helper.from_array(RANDOM.standard_normal(bias_shape, np.float32), "b0"),
        numpy_helper.from_array(second[:8], "w1"),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["product"], name="dense"),
        helper.make_node("Add", ["b0", "product"], ["sum"], name="bias"),
        helper.make_node("Relu", ["sum"], ["relu"], name="relu"),
        helper.make_node("MatMul", ["relu", "w1"], ["scores"], name="head"),
    ]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 16])]
    if expose:
        outputs.append(helper.make_tensor_value_info("product", TensorProto.FLOAT, ["N", 8]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16])]
    graph = helper.make_graph(nodes, "net", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def operators(reference: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(reference).graph.node]


@pytest.mark.parametrize("bias_shape", [(8,), (1, 8)])
def test_a_product_and_its_bias_become_one_node_with_the_same_values(
    tmp_path: Path, bias_shape: tuple[int, ...]
) -> None:
    path = perceptron(tmp_path / "net.onnx", bias_shape)
    reference, graph = inspect(path, {})
    assert operators(reference) == ["Gemm", "Relu", "MatMul"]
    assert [weight.name for weight in graph.weights] == ["w0", "w1"]
    feed = {"x": RANDOM.standard_normal((1, 16), np.float32)}
    before, after = (ort.InferenceSession(m).run(["scores"], feed)[0] for m in (path.read_bytes(), reference))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


def test_a_product_that_is_read_elsewhere_stays_as_it_is(tmp_path: Path) -> None:
    reference, _ = inspect(perceptron(tmp_path / "net.onnx", expose=True), {})
    assert operators(reference) == ["MatMul", "Add", "Relu", "MatMul"]


def test_an_add_that_is_no_bias_stays_as_it_is(tmp_path: Path) -> None:
    reference, _ = inspect(perceptron(tmp_path / "net.onnx", (1, 1)), {})
    assert operators(reference) == ["MatMul", "Add", "Relu", "MatMul"]


def test_the_joined_product_runs_in_int8(tmp_path: Path) -> None:
    reference, graph = inspect(perceptron(tmp_path / "net.onnx"), {})
    (tmp_path / "reference.onnx").write_bytes(reference)
    counted = PartialAccumulator(NumericsClass("e", "1", "i", "m", graph.recipe, "p", 1), graph.activations)
    run = ReferenceRun(tmp_path / "reference.onnx", graph)
    for index in range(4):
        sample = {"x": RANDOM.standard_normal((1, 16), np.float32)}
        counted.observe(index, str(index), dict(run.activations(sample)))
    table = ScaleTable.build(counted.partial(), graph, calibrator_named("absmax"), manifest="m", preprocessing="p")
    onnx_qdq.quantize(tmp_path / "reference.onnx", table, "u8s8-paired", tmp_path / "int8.onnx")
    counts = engine_named("onnxruntime-cpu").load(tmp_path / "int8.onnx", LoadOptions("int8", 1)).node_counts()
    assert (counts.int8, counts.quantizable, counts.fallbacks) == (2, 2, ())
