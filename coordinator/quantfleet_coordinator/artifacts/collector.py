"""Which artifacts may be deleted. Not for deleting them."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from quantfleet_coordinator.store.records import ArtifactRecord


def collectable(records: Iterable[ArtifactRecord], kept: AbstractSet[str], now: float, age_s: float) -> list[str]:
    """The digests, sorted, that nothing refers to and that are at least `age_s` seconds old at `now` (Unix seconds).

    `kept` holds every digest that a kept job, task or report refers to. The age leaves a submitting client the time
    between uploading and submitting.
    """
    return sorted(record.digest for record in records if record.digest not in kept and now - record.created_at >= age_s)
