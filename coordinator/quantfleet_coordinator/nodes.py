"""The nodes of the fleet: what they are, whether they live, and in which run. Not for their certificates."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from quantfleet_coordinator.store.records import NodeRecord
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.facts import DeviceFacts
from quantfleet_domain.jobs.placement import Place
from quantfleet_protos.v1 import control_pb2, fleet_pb2
from quantfleet_wire.codec import decode

IN_SERVICE, CORDONED, DRAINING, REVOKED = "in-service", "cordoned", "draining", "revoked"

Devices = Mapping[tuple[str, str], DeviceFacts]
"""Facts as last registered, by node and device."""


@dataclass
class Node:
    """One node. `seen` is when it last called, on the monotonic clock (None: not since the coordinator started).

    `replies` numbers the answers to its polls, `polls` the polls themselves.
    """

    record: NodeRecord
    devices: tuple[DeviceFacts, ...]
    version: str
    seen: float | None = None
    replies: int = 0
    polls: int = 0

    @property
    def name(self) -> str:
        """The name in its certificate."""
        return self.record.name

    def silent_s(self) -> float | None:
        """Seconds since its last call."""
        return None if self.seen is None else time.monotonic() - self.seen


class Nodes:
    """All nodes by name. A node is live while it has called within `term_s` seconds."""

    def __init__(self, term_s: float) -> None:
        self._nodes: dict[str, Node] = {}
        self._term_s = term_s

    def load(self, records: Iterable[NodeRecord]) -> None:
        """Take the nodes from the store."""
        self._nodes = {record.name: _node(record) for record in records}

    def __iter__(self) -> Iterator[Node]:
        return iter(sorted(self._nodes.values(), key=lambda node: node.name))

    def get(self, name: str) -> Node:
        """A node. Raises QuantfleetError(NODE_NOT_FOUND)."""
        try:
            return self._nodes[name]
        except KeyError:
            raise QuantfleetError(
                ErrorCode.NODE_NOT_FOUND, f"no node is called {name!r}", "see the nodes: quantfleet node list"
            ) from None

    def enrol(self, name: str) -> NodeRecord:
        """A node that has just been given a certificate; one that joins again starts afresh."""
        record = NodeRecord(name=name, standing=IN_SERVICE, incarnation="", facts=b"")
        self._nodes[name] = _node(record)
        return record

    def register(self, name: str, request: fleet_pb2.RegisterRequest) -> NodeRecord:
        """Begin a new run of a node, with the facts that it probed."""
        node = self.get(name)
        standing = IN_SERVICE if node.record.standing == DRAINING else node.record.standing
        record = NodeRecord(name, standing, request.incarnation, request.SerializeToString())
        self._nodes[name] = replace(_node(record), seen=time.monotonic())
        return record

    def stand(self, name: str, standing: str) -> NodeRecord:
        """Change whether a node is given tasks. Raises CERTIFICATE_REVOKED for a node that was expelled."""
        node = self.get(name)
        if node.record.standing == REVOKED:
            raise QuantfleetError(
                ErrorCode.CERTIFICATE_REVOKED, f"node {name} was revoked", "let it join again with a new token"
            )
        node.record = replace(node.record, standing=standing)
        return node.record

    def heard(self, name: str, incarnation: str) -> Node:
        """A call of a registered run. Raises QuantfleetError(INCARNATION_STALE) when another run has begun since."""
        node = self.get(name)
        if not incarnation or node.record.incarnation != incarnation:
            raise QuantfleetError(
                ErrorCode.INCARNATION_STALE,
                f"node {name} has been registered by another run of its agent",
                "only one agent runs under one identity; stop this one, or register again",
            )
        node.seen = time.monotonic()
        return node

    def live(self, node: Node) -> bool:
        """Whether it has called within the term."""
        silent = node.silent_s()
        return silent is not None and silent < self._term_s

    def places(self) -> list[Place]:
        """Every device that takes new tasks."""
        return [
            Place(node.name, facts)
            for node in self
            if self.live(node) and node.record.standing == IN_SERVICE
            for facts in node.devices
        ]

    def device(self, node: str, device: str) -> DeviceFacts | None:
        """The facts of one device, if the node still has it."""
        known = self._nodes.get(node)
        return next((facts for facts in known.devices if facts.device == device), None) if known else None

    def status(self, node: Node, leased: int) -> control_pb2.NodeStatus:
        """A node for a user."""
        registered = fleet_pb2.RegisterRequest.FromString(node.record.facts)
        status = control_pb2.NodeStatus(
            name=node.name,
            state=self._state(node, leased),
            version=node.version,
            devices=registered.devices,
            leased=leased,
        )
        silent = node.silent_s()
        if silent is not None:
            status.silent_s = silent
        return status

    def _state(self, node: Node, leased: int) -> str:
        match node.record.standing:
            case "draining":
                return "draining" if leased else "drained"
            case "in-service" if not node.record.incarnation:
                return "enrolled"
            case "in-service":
                return "live" if self.live(node) else "lost"
            case standing:
                return standing


def _node(record: NodeRecord) -> Node:
    registered = fleet_pb2.RegisterRequest.FromString(record.facts)
    devices = tuple(decode(device, DeviceFacts) for device in registered.devices)
    return Node(record, devices, registered.version)
