"""Counts inside the engine: every observed tensor gets a tap node right behind its producer. Not the tap itself."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from quantfleet_domain.calibration.graph import CalibrationGraph, NumericsClass
from quantfleet_domain.calibration.partial import Partial
from quantfleet_domain.calibration.statistic import (
    TensorStatistic,
    extremes_statistic,
    is_finite_bin,
    sample_not_finite,
    samples_overlap,
)
from quantfleet_domain.errors import QuantfleetError
from quantfleet_worker.collecting.collector import Collector
from quantfleet_worker.collecting.parts import parts
from quantfleet_worker.collecting.tap_library import (
    DOMAIN,
    EMPTY,
    NAME,
    TapLibrary,
    Taps,
    TapUnavailableError,
    floats,
    tap_node,
)
from quantfleet_worker.models import reference_session
from quantfleet_worker.models.blocked_graph import DONE, BlockedGraph, Place, blocked_graph


class NativeCollector(Collector):
    """The graph with taps in it; `taps` is the memory that they write to. The arguments are as `choice.collector`'s.

    Raises QuantfleetError(ENGINE_FAILED), TapUnavailableError where the engine does not load the graph with taps.
    """

    def __init__(self, library: TapLibrary, reference: Path, graph: CalibrationGraph, numerics: NumericsClass) -> None:
        self.name = NAME
        self._numerics = numerics
        with tempfile.TemporaryDirectory() as folder:
            blocked = blocked_graph(reference, graph.activations, Path(folder))
            made_of = parts(blocked.model.graph, blocked.places)
            places = sorted({place for found in made_of.values() for place in found})
            self._slots = {name: [places.index(place) for place in made_of[name]] for name in graph.activations}
            self.taps = Taps(len(places), extremes_only=numerics.extremes_only)
            with library.opened(self.taps) as handle:
                _tap(blocked, places, handle)
                try:
                    self._session = blocked.session(library.options())
                except QuantfleetError as error:
                    raise TapUnavailableError(error.what) from error
        self._extremes: dict[int, tuple[NDArray[np.int32], NDArray[np.int32]]] = {}

    def observe(self, sample_index: int, sample_name: str, feeds: Mapping[str, NDArray[np.float32]]) -> None:
        """See Collector."""
        if sample_index in self._extremes:
            raise samples_overlap(sample_index, 1)
        self.taps.begin()
        reference_session.run(self._session, [DONE], feeds)
        if not self.taps.finite():
            raise self._not_finite(sample_name)
        self._extremes[sample_index] = self.taps.extremes()

    def partial(self) -> Partial:
        """See Collector."""
        samples = np.array(sorted(self._extremes), np.int64)
        extremes = np.array([self._extremes[index] for index in samples.tolist()], np.int32)
        extremes = extremes.reshape(len(samples), 2, len(self.taps.state))
        return Partial(
            self._numerics,
            frozenset(self._extremes),
            {name: self._statistic(slots, samples, extremes[:, :, slots]) for name, slots in self._slots.items()},
        )

    def _statistic(self, slots: list[int], samples: NDArray[np.int64], extremes: NDArray[np.int32]) -> TensorStatistic:
        lowest, highest = extremes[:, 0].min(axis=1), extremes[:, 1].max(axis=1)
        seen = lowest != EMPTY
        samples, minimum, maximum = samples[seen], floats(lowest[seen]), floats(highest[seen])
        if self._numerics.extremes_only:
            return extremes_statistic(samples, minimum, maximum)
        return TensorStatistic(*self.taps.counts(slots), samples, minimum, maximum)

    def _not_finite(self, sample_name: str) -> QuantfleetError:
        name = next(name for name, slots in self._slots.items() if any(map(self.taps.spoilt, slots)))
        bins, counts = self.taps.counts(self._slots[name])
        return sample_not_finite(name, int(counts[~is_finite_bin(bins)].sum()), sample_name)


def _tap(blocked: BlockedGraph, places: list[Place], handle: int) -> None:
    """Put a tap behind whatever computes each place; what nothing computes is tapped first."""
    taps: dict[str, list[NodeProto]] = {}
    for slot, place in enumerate(places):
        block = blocked.block if place.channels else 1
        taps.setdefault(place.value, []).append(tap_node(place.value, handle, slot, place.channels, block))
    model = blocked.model
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes.append(NodeProto.FromString(node.SerializeToString()))
        for value in node.output:
            nodes += taps.pop(value, [])
    nodes = [tap for given in taps.values() for tap in given] + nodes
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
