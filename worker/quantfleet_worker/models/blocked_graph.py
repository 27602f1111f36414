"""The reference graph as ONNX Runtime optimises it for this CPU, and where the observed tensors are in it.

ONNX Runtime computes convolutions on channel-blocked tensors, (N, C/block, …, block) in the memory of an (N, C, …)
tensor whose last block is padded. A tensor that is an output is turned back at some cost; here the optimised graph is
saved and the turning back is cut out again, so that the blocked tensors themselves can be observed. What is an output
while it optimises decides what it fuses, and so the bits: always all observed tensors. Not for counting them.
"""

import functools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from quantfleet_worker.models import reference_session

DONE = "quantfleet.done"
"""The only output of a blocked graph, a constant: what is asked for where nothing else is."""
_BLOCKED_DOMAIN = "com.microsoft.nchwc"


@dataclass(frozen=True, order=True)
class Place:
    """Where a tensor's values are: `value` of the optimised graph, which has this many real `channels` if blocked.

    0 channels: the value is the tensor as it is.
    """

    value: str
    channels: int


@dataclass(frozen=True, eq=False)
class BlockedGraph:
    """The optimised graph without its outputs (but `DONE`) and what only they needed.

    `model` is the caller's to change; its weights are in a file of `folder`. `places` has every observed tensor;
    `block` is the number of channels in a block on this CPU.
    """

    model: ModelProto
    places: Mapping[str, Place]
    block: int
    folder: Path

    def session(self, options: Any) -> Any:
        """An `InferenceSession` of the model as it is now. Raises QuantfleetError(ENGINE_FAILED)."""
        path = self.folder / "instrumented.onnx"
        path.write_bytes(self.model.SerializeToString())
        return reference_session.session(path, options)


def blocked_graph(reference: Path, tensors: Sequence[str], folder: Path) -> BlockedGraph:
    """The optimised graph of the reference graph in `reference`, which observes `tensors`: all that the recipe names.

    `folder` takes its files and must be there until the session is. Raises QuantfleetError(ENGINE_FAILED).
    """
    model = _optimised(_exposing(reference.read_bytes(), tensors), folder)
    sources = {
        node.output[0]: source
        for node in model.graph.node
        # One that also transposes is left in place: the tensor is wanted as it is.
        if (source := reordered(node)) and not any(item.name == "channels_last" and item.i for item in node.attribute)
    }
    places = {name: sources.get(name, Place(name, 0)) for name in tensors}
    _keep_what_computes(model.graph, {place.value for place in places.values()})
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), DONE))
    model.graph.output.append(helper.make_tensor_value_info(DONE, TensorProto.FLOAT, [1]))
    return BlockedGraph(model, places, _block(), folder)


def reordered(node: NodeProto) -> Place | None:
    """The blocked place of a node that turns a blocked tensor back; None for any other node."""
    if (node.domain, node.op_type) != (_BLOCKED_DOMAIN, "ReorderOutput"):
        return None
    channels = next(int(item.i) for item in node.attribute if item.name == "channels")
    return Place(node.input[0], channels)


def unblocked(values: NDArray[np.float32], channels: int, block: int) -> NDArray[np.float32]:
    """A blocked tensor, float32 (N, padded channels, …), as the (N, channels, …) that it stands for."""
    batch, padded, *spatial = values.shape
    blocks = values.reshape(batch, padded // block, *spatial, block)
    return np.moveaxis(blocks, -1, 2).reshape(batch, padded, *spatial)[:, :channels]


def _exposing(content: bytes, tensors: Sequence[str]) -> bytes:
    """The serialised model with those of `tensors` that it computes among its outputs."""
    graph = ModelProto.FromString(content).graph
    own = {item.name for item in graph.output}
    computed = {name for node in graph.node for name in node.output}
    exposed = [name for name in tensors if name in computed - own]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in exposed]
    # Messages one behind the other are one message: this saves writing all weights again.
    return content + ModelProto(graph=GraphProto(output=outputs)).SerializeToString()


def _optimised(content: bytes, folder: Path) -> ModelProto:
    """What ONNX Runtime makes of the serialised model; its weights are in a file of `folder`."""
    path = folder / "optimised.onnx"
    options = reference_session.options(optimize=True)
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    reference_session.session(content, options)
    return onnx.load(path, load_external_data=False)


def _keep_what_computes(graph: GraphProto, values: set[str]) -> None:
    """Take out the outputs, and the nodes and weights that none of the values needs."""
    needed = set(values)
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_read_by(node))
    copies = [NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    del graph.node[:]
    graph.node.extend(copies)
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in needed:
            del graph.initializer[index]
    del graph.value_info[:]
    del graph.output[:]


def _read_by(node: NodeProto) -> Iterator[str]:
    """The names that a node reads, in its subgraphs too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _read_by(inner)
            yield from (item.name for item in graph.output)


@functools.cache
def _block() -> int:
    """The number of channels in a block on this CPU: to how many a convolution with one is padded; 1 without blocks."""
    weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weight"], ["map"])],
        "probe",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 1, 1])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, 1, 1, 1])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with tempfile.TemporaryDirectory() as folder:
        optimised = _optimised(model.SerializeToString(), Path(folder))
    return max((int(item.dims[0]) for item in optimised.graph.initializer if len(item.dims) == 4), default=1)
