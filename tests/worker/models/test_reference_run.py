"""The activations that are read from the blocked graph are those of the session in which they are plain outputs."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tests.contract.statistic_contract import network, observing
from tests.worker.onnx_networks import classifier, pictures, saved

from quantfleet_worker import onnxruntime_library
from quantfleet_worker.models.onnx_model import inspect
from quantfleet_worker.models.reference_run import ReferenceRun

WEIGHTS = {"w": np.random.default_rng(1).standard_normal((5, 4, 3, 3))}
CONVOLUTION = helper.make_node("Conv", ["x", "w"], ["c"])


def exposed(path: Path, tensors: list[str], feeds: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """What an optimised session gives that has all of them as outputs."""
    ort = onnxruntime_library.load()
    model = onnx.load(path)
    own = {item.name for item in model.graph.output}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors if name not in own]
    model.graph.output.extend(outputs)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(tensors, session.run(tensors, feeds), strict=True))


@pytest.mark.parametrize(
    ("nodes", "end"),
    [
        ([CONVOLUTION], "c"),
        ([CONVOLUTION, helper.make_node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1])], "t"),
        ([CONVOLUTION, helper.make_node("Transpose", ["c"], ["t"], perm=[0, 3, 2, 1])], "t"),
        ([CONVOLUTION, helper.make_node("Sigmoid", ["c"], ["s"]), helper.make_node("Flatten", ["s"], ["f"])], "f"),
    ],
)
@pytest.mark.parametrize("with_what_is_between", [True, False])
def test_activations_have_the_values_in_the_places_of_the_exposed_tensors(
    tmp_path: Path, nodes: list[onnx.NodeProto], end: str, with_what_is_between: bool
) -> None:
    tensors = [node.output[0] for node in nodes] if with_what_is_between else [end]
    path = network(tmp_path, nodes, [end], WEIGHTS)
    feeds = {"x": np.random.default_rng(2).standard_normal((2, 4, 7, 6)).astype(np.float32)}
    found = dict(ReferenceRun(path, observing("x", *tensors)).activations(feeds))
    assert found.pop("x") is feeds["x"]
    for name, values in exposed(path, tensors, feeds).items():
        assert np.array_equal(found[name], values)


def test_activations_of_a_network_have_the_bits_of_the_exposed_tensors(tmp_path: Path) -> None:
    content, graph = inspect(saved(classifier(), tmp_path), {})
    path = tmp_path / "reference.onnx"
    path.write_bytes(content)
    feeds = {"image": pictures(1)[0]}
    found = dict(ReferenceRun(path, graph).activations(feeds))
    assert list(found) == list(graph.activations)
    for name, values in exposed(path, [name for name in graph.activations if name != "image"], feeds).items():
        assert found[name].tobytes() == values.tobytes()
