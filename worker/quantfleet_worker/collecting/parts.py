"""Which observed tensors are only others, put together or in another order, and need not be counted. Not counting.

The counts of a concatenation are the sums of its inputs' counts, and a tensor that is reshaped or transposed keeps its
counts; so do the extremes.
"""

from collections.abc import Mapping

from onnx import GraphProto, NodeProto

from quantfleet_worker.models.blocked_graph import Place, reordered

_SAME_VALUES = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def parts(graph: GraphProto, places: Mapping[str, Place]) -> dict[str, tuple[Place, ...]]:
    """The places that together have a tensor's values, each value as often, by tensor; the fewest over all tensors.

    `places` are the observed tensors' in the optimised `graph`.
    """
    found = _Parts(graph, places)
    return {tensor: found.of(place) for tensor, place in places.items()}


class _Parts:
    def __init__(self, graph: GraphProto, places: Mapping[str, Place]) -> None:
        self._producers = {value: node for node in graph.node for value in node.output}
        self._observed = {place.value: place for place in places.values()}

    def of(self, place: Place) -> tuple[Place, ...]:
        return self._elsewhere(place) or (place,)

    def _elsewhere(self, place: Place) -> tuple[Place, ...]:
        """The places of other observed tensors that have these values, or none."""
        node = self._producers.get(place.value)
        if node is None:
            return ()
        if source := reordered(node):
            return self.of(source) if source in self._observed.values() else ()
        if node.domain:
            return ()
        if node.op_type in _SAME_VALUES:
            return self._of_value(node.input[0])
        return self._of_concatenation(node, place) if node.op_type == "Concat" else ()

    def _of_value(self, value: str) -> tuple[Place, ...]:
        place = self._observed.get(value)
        return self.of(place) if place else self._elsewhere(Place(value, 0))

    def _of_concatenation(self, node: NodeProto, place: Place) -> tuple[Place, ...]:
        if not place.channels:
            found = [self._of_value(value) for value in node.input]
        else:
            inputs = [self._observed.get(value, Place(value, 0)) for value in node.input]
            if sum(item.channels for item in inputs) != place.channels:
                return ()  # one is not observed: how many of its channels are real is not known
            found = [self.of(item) for item in inputs]
        return tuple(part for item in found for part in item) if all(found) else ()
