"""What a coordinator is told when it is started. Not for what a job says."""

from dataclasses import dataclass
from pathlib import Path

DAY_S = 86_400.0


@dataclass(frozen=True)
class Settings:
    """`listen` and `enrol_listen` are host:port (port 0: any free one); `advertise` is the host that others dial.

    A lease lasts `lease_s` seconds without a heartbeat, heartbeats come every `heartbeat_s`; a node's certificate lives
    `node_lifetime_s`; an artifact that no job refers to is deleted after `orphan_age_s`.
    """

    state: Path
    listen: str = "127.0.0.1:7443"
    enrol_listen: str = "127.0.0.1:7444"
    advertise: str = "127.0.0.1"
    fleet: str = "quantfleet"
    lease_s: float = 30.0
    heartbeat_s: float = 10.0
    node_lifetime_s: float = DAY_S
    orphan_age_s: float = DAY_S
