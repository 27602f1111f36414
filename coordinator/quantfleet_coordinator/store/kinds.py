"""Every kind of record that the coordinator's store keeps, in one place. Not for what is in them."""

from typing import Final

from quantfleet_coordinator.enrolment.records import CertificateRecord, TokenRecord
from quantfleet_coordinator.store.base import Record
from quantfleet_coordinator.store.records import (
    ArtifactRecord,
    AttemptRecord,
    AuditRecord,
    EventRecord,
    JobRecord,
    NodeRecord,
    PoolRecord,
    TaskRecord,
)

KINDS: Final[tuple[type[Record], ...]] = (
    JobRecord,
    TaskRecord,
    EventRecord,
    AttemptRecord,
    NodeRecord,
    PoolRecord,
    AuditRecord,
    ArtifactRecord,
    TokenRecord,
    CertificateRecord,
)
