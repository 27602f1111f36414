"""Builds graphs that simulate quantized networks in float, beside the network as it is. Not for running them.

One graph holds everything that is compared: equal nodes with equal inputs are there once, so that forms which share a
scale, or candidates that share the start of the network, share the work too. Only means leave it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from quantfleet_domain.calibration.forms import QuantizationParameters
from quantfleet_domain.calibration.graph import Layer
from quantfleet_worker.quantizers.simulation import SimulatedForm


class SimulatedGraph:
    """A graph over the inputs of a reference graph that grows by what it is asked for."""

    def __init__(self, reference: ModelProto) -> None:
        self._reference = reference
        self._given = {item.name: item for item in reference.graph.initializer}
        self._layers = {node.output[0]: node for node in reference.graph.node}
        self._nodes: list[NodeProto] = []
        self._known: dict[bytes, tuple[str, ...]] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], TensorProto] = {}
        self._kept: dict[str, str] = {}
        self._outputs: dict[str, None] = {}

    @property
    def outputs(self) -> tuple[str, ...]:
        """The means that were asked for, in order."""
        return tuple(self._outputs)

    def network(
        self, layers: Iterable[Layer], form: SimulatedForm | None, source: ModelProto | None = None
    ) -> dict[str, str]:
        """Add the network up to these layers, as it is or in a form; gives this graph's name for each of its tensors.

        `source` is the reference graph with other biases.
        """
        graph = (source or self._reference).graph
        names = {item.name: item.name for item in graph.input}
        given = {item.name: item for item in graph.initializer}
        for node in _needed(graph, {layer.output for layer in layers}):
            read = [self._read(name, names, given, form) for name in node.input]
            if form is not None and node.output[0] in form.weights:
                read[1] = self.constant(form.weights[node.output[0]])
            names.update(zip(node.output, self._add(self._bound(node, names, given), read), strict=True))
        return names

    def difference(self, layer: Layer, form: SimulatedForm, network: Mapping[str, str]) -> str | None:
        """Add what a layer of the network computes less what it computes in a form on the same inputs; None in float.

        A convolution's sum with another tensor is for free, so its twin has the signs of weight and bias turned.
        """
        if layer.output not in form.weights:
            return None
        node = self._layers[layer.output]
        read = [self._read(name, network, self._given, form) for name in node.input]
        read[1] = self.constant(-form.weights[layer.output])
        if len(node.input) > 2 and node.input[2]:
            bias = self._given.get(node.input[2])
            read[2] = self.constant(-numpy_helper.to_array(bias)) if bias is not None else self._apply("Neg", read[2])
        (turned,) = self._add(node, read)
        return self._apply("Add", turned, network[layer.output])

    def minus(self, left: str, right: str) -> str:
        """Add the difference of two tensors of one shape."""
        return self._apply("Sub", left, right)

    def square(self, value: str) -> str:
        """Add the squares of a tensor's elements."""
        return self._apply("Mul", value, value)

    def mean(self, value: str, layer: Layer) -> str:
        """Add the means per channel of a tensor shaped like a layer's output, and give them out: (N, C, 1, …)."""
        if self._layers[layer.output].op_type != "Conv":  # rows of channels
            columns = self._apply("Transpose", value)
            value = self._apply("Unsqueeze", columns, self.constant(np.array([0], np.int64)))
        name = self._apply("GlobalAveragePool", value)
        self._outputs[name] = None
        return name

    def constant(self, values: NDArray[Any] | np.generic) -> str:
        """Add a constant."""
        array = np.asarray(values)
        digest = hashlib.sha256(np.ascontiguousarray(array).data).digest()
        key = (array.dtype.str, array.shape, digest)
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"constant/{len(self._constants)}")
        return self._constants[key].name

    def model(self) -> ModelProto:
        """The graph as a model whose outputs are the means that were asked for."""
        graph = helper.make_graph(
            self._nodes,
            "simulated",
            list(self._reference.graph.input),
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self._outputs],
            list(self._constants.values()),
        )
        return helper.make_model(
            graph, opset_imports=list(self._reference.opset_import), ir_version=self._reference.ir_version
        )

    def _read(
        self, name: str, names: Mapping[str, str], given: Mapping[str, TensorProto], form: SimulatedForm | None
    ) -> str:
        """This graph's name for a tensor as a node of the form reads it."""
        if name not in names:
            return self._keep(name, given) if name else ""
        if form is None or name not in form.activations:
            return names[name]
        return self._fake_quantized(names[name], form.activations[name])

    def _fake_quantized(self, value: str, parameters: QuantizationParameters) -> str:
        operands = [self.constant(parameters.scale), self.constant(parameters.zero_point)]
        return self._apply("DequantizeLinear", self._apply("QuantizeLinear", value, *operands), *operands)

    def _bound(self, node: NodeProto, names: Mapping[str, str], given: Mapping[str, TensorProto]) -> NodeProto:
        """A copy of a node whose subgraphs read what they capture under this graph's names."""
        copy = NodeProto.FromString(node.SerializeToString())
        for attribute in copy.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                bound = [self._bound(item, names, given) for item in inner.node]
                for item in bound:
                    item.input[:] = [self._captured(name, names, given) for name in item.input]
                del inner.node[:]
                inner.node.extend(bound)
                for output in inner.output:
                    output.name = self._captured(output.name, names, given)
        return copy

    def _captured(self, name: str, names: Mapping[str, str], given: Mapping[str, TensorProto]) -> str:
        return self._keep(name, given) if name in given else names.get(name, name)

    def _apply(self, kind: str, *inputs: str) -> str:
        (name,) = self._add(helper.make_node(kind, inputs, [f"{inputs[0]}/{kind}"]), inputs)
        return name

    def _add(self, node: NodeProto, inputs: Iterable[str]) -> tuple[str, ...]:
        """A node with these inputs: the one that is there already, or a copy; this graph's names for its outputs."""
        copy = NodeProto.FromString(node.SerializeToString())
        copy.input[:] = list(inputs)
        copy.name = ""
        copy.output[:] = ["x" if name else "" for name in node.output]
        key = copy.SerializeToString(deterministic=True)
        if key not in self._known:
            copy.output[:] = [f"{name}/{len(self._known)}" if name else "" for name in node.output]
            copy.name = f"{node.op_type}/{len(self._known)}"
            self._nodes.append(copy)
            self._known[key] = tuple(copy.output)
        return self._known[key]

    def _keep(self, name: str, given: Mapping[str, TensorProto]) -> str:
        """A constant of the reference graph, which is looked at once, or one that a source has beside those."""
        if name not in self._given:
            return self.constant(numpy_helper.to_array(given[name]))
        if name not in self._kept:
            self._kept[name] = self.constant(numpy_helper.to_array(self._given[name]))
        return self._kept[name]


def _needed(graph: GraphProto, tensors: set[str]) -> list[NodeProto]:
    """The nodes from which the tensors are computed, in graph order."""
    needed, found = set(tensors), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            found.append(node)
            needed.update(_read_by(node))
    return found[::-1]


def _read_by(node: NodeProto) -> Iterator[str]:
    """The names that a node reads, in its subgraphs too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _read_by(inner)
            yield from (item.name for item in graph.output)
