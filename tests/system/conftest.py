"""What system tests share: a small convolutional model, samples for it, and a fleet of real processes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.system.fleet import RunningFleet

CHANNELS = 16
SIDE = 64


def write_model(path: Path) -> None:
    """A convolutional net of a few milliseconds, 3 × 64 × 64 in, 10 classes out; the same bytes every time."""
    random = np.random.default_rng(7)
    weights, nodes, last = [], [], "image"
    for layer in range(4):
        shape = (CHANNELS, 3 if layer == 0 else CHANNELS, 3, 3)
        weight = (random.standard_normal(shape) * np.sqrt(2 / (shape[1] * 9))).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes.append(
            helper.make_node("Conv", [last, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1], name=f"conv{layer}")
        )
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"], name=f"relu{layer}"))
        last = f"r{layer}"
    head = (random.standard_normal((CHANNELS, 10)) * 0.3).astype(np.float32)
    weights.append(numpy_helper.from_array(head, "head"))
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"))
    nodes.append(helper.make_node("MatMul", ["flat", "head"], ["scores"], name="head"))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 10])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def write_samples(directory: Path, count: int) -> None:
    """Tensors of noise whose spread differs from sample to sample."""
    directory.mkdir()
    random = np.random.default_rng(11)
    for index in range(count):
        tensor = random.standard_normal((3, SIDE, SIDE)).astype(np.float32) * (0.5 + index / count)
        np.save(directory / f"{index:04}.npy", tensor)


def write_job(
    directory: Path,
    name: str,
    *,
    shards: int = 1,
    benchmark: str = "{modes: []}",
    targets: str = "[]",
    calibration: str = "calibrator: entropy, reuse: false",
    extra: str = "",
) -> Path:
    """A job over the shared model and samples of `directory`; it counts for itself unless `calibration` says else."""
    path = directory / f"{name}.yaml"
    path.write_text(
        f"apiVersion: quantfleet/v1\nkind: Job\nname: {name}\nmodel: {{path: net.onnx}}\n"
        f"calibration: {{data: {{path: samples}}, shards: {shards}, {calibration}}}\n"
        f"targets: {targets}\nbenchmark: {benchmark}\n{extra}"
    )
    return path


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `net.onnx` and `samples/`."""
    directory = tmp_path_factory.mktemp("material")
    write_model(directory / "net.onnx")
    write_samples(directory / "samples", 42)
    return directory


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFleet]:
    """A coordinator and two workers, `left` and `right`, all of them processes of their own."""
    running = RunningFleet(tmp_path_factory.mktemp("fleet"))
    try:
        running.start_coordinator()
        for name, cores in (("left", "0"), ("right", "1")):
            running.enrol(name)
            running.start_worker(name, cores)
        running.wait_live("left", "right")
        yield running
    finally:
        running.stop()
