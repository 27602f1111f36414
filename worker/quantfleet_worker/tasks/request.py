"""What the agent hands to a task's child process beside its work: where files are and which hardware it is on."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from quantfleet_domain.jobs.work import Work
from quantfleet_protos.v1 import task_pb2
from quantfleet_wire.codec import decode_union, encode


@dataclass(frozen=True)
class Surroundings:
    """`cache` holds input files named by digest, `outputs` takes files named by digest. `cores` are what the child is
    pinned to, `isa` and `numerics_isa` as in `DeviceFacts`; `companions` are process ids of the worker itself, whose
    idle work does not count as a disturbance; `allowed_code` are the packages whose code jobs may run on this node.
    `kept` is a directory for what engines take long to build, `phones` the file that lists the node's phones; each is
    empty where there is none.
    """

    cache: str
    outputs: str
    device: str
    cores: tuple[int, ...]
    isa: tuple[str, ...]
    numerics_isa: str
    companions: tuple[int, ...]
    allowed_code: tuple[str, ...] = ()
    kept: str = ""
    phones: str = ""


def pack(surroundings: Surroundings, work: Work) -> bytes:
    """One line of JSON, then the serialised quantfleet.v1.Work."""
    return json.dumps(asdict(surroundings)).encode() + b"\n" + encode(work, task_pb2.Work).SerializeToString()


def unpack(request: bytes) -> tuple[Surroundings, Work]:
    """Read what `pack` wrote."""
    head, _, body = request.partition(b"\n")
    fields: dict[str, Any] = json.loads(head)
    work: Work = decode_union(task_pb2.Work.FromString(body), Work)
    surroundings: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return Surroundings(**surroundings), work
