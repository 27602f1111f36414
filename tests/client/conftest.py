"""A small real network with samples and labels, and the job that runs it on this machine."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

CLASSES, SAMPLES = 10, 12


def write_network(path: Path) -> None:
    """Two convolutions and a classifier over [1, 3, 16, 16] float32, with seeded weights."""
    random = np.random.default_rng(7)
    weights = {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "w3": (8, CLASSES)}
    initializers = [
        numpy_helper.from_array((random.normal(size=shape) * 0.3).astype(np.float32), name)
        for name, shape in weights.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w3"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CLASSES])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))


@pytest.fixture(scope="session")
def tiny_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The job file; beside it the network, twelve .npy samples in data/, and labels.txt."""
    folder = tmp_path_factory.mktemp("tiny")
    write_network(folder / "tiny.onnx")
    (folder / "data").mkdir()
    random = np.random.default_rng(8)
    for i in range(SAMPLES):
        np.save(folder / "data" / f"{i:02d}.npy", random.normal(size=(3, 16, 16)).astype(np.float32))
    (folder / "labels.txt").write_text("".join(f"{i:02d}.npy {i % CLASSES}\n" for i in range(SAMPLES)))
    job = folder / "job.yaml"
    job.write_text(
        "apiVersion: quantfleet/v1\nkind: Job\nname: tiny\nmodel: {path: tiny.onnx}\n"
        "calibration: {data: {path: data}, shards: 3}\n"
        "targets: [{engines: [onnxruntime-cpu]}]\n"
        "benchmark: {warmup: 2, repeat: 40}\n"
        "evaluate: {data: {path: data, list: labels.txt}}\n"
        'gates: ["int8.speedup >= 0.001"]\n'
    )
    return job
