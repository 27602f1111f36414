"""Which artifacts exist and who may read them: the directory's bytes beside the store's rows. Not for moving bytes."""

import asyncio
import time

from quantfleet_coordinator.artifacts.cas import ArtifactDirectory
from quantfleet_coordinator.artifacts.collector import collectable
from quantfleet_coordinator.jobs.dispatcher import artifacts_of
from quantfleet_coordinator.jobs.ledger import Ledger
from quantfleet_coordinator.store.base import Store
from quantfleet_coordinator.store.records import ArtifactRecord
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Manifest
from quantfleet_wire.identity import current_peer


class Library:
    """Every artifact that is stored whole, by digest. An artifact exists once its row is durable."""

    def __init__(self, directory: ArtifactDirectory, ledger: Ledger) -> None:
        self._directory = directory
        self._ledger = ledger
        self._records: dict[str, ArtifactRecord] = {}
        self._deleting: set[str] = set()

    def load(self, store: Store) -> None:
        """Take the rows from the store."""
        self._records = {record.digest: record for record in store.all(ArtifactRecord)}

    def has(self, digest: str) -> bool:
        """Whether it exists."""
        return digest in self._records

    async def record(self, digest: str, size: int) -> None:
        """Make an artifact exist whose bytes are in the directory. Raises STORE_FAILED while they are being deleted."""
        if digest in self._deleting:
            raise QuantfleetError(ErrorCode.STORE_FAILED, f"artifact {digest} is being deleted", "send it again")
        if digest not in self._records:
            record = self._records[digest] = ArtifactRecord(digest, size, time.time())
            await self._ledger.record(record)
        else:
            await self._ledger.record()  # its row may not be durable yet

    async def recover(self) -> None:
        """Give a row to every artifact that lost it in a crash: nobody would send it again, for its bytes are here."""
        found = await asyncio.to_thread(lambda: list(self._directory.stored()))
        lost = [ArtifactRecord(digest, size, time.time()) for digest, size in found if digest not in self._records]
        self._records.update((record.digest, record) for record in lost)
        await self._ledger.record(*lost)

    def read(self, digest: str) -> bytes:
        """All bytes of an artifact; blocks on the disk. Raises ARTIFACT_NOT_FOUND."""
        return b"".join(self._directory.read(digest))

    def put(self, content: bytes) -> str:
        """Store bytes that the coordinator made; blocks on the disk. The caller makes the row with its own records."""
        return self._directory.put_bytes(content)

    def manifest(self, digest: str) -> Manifest:
        """A manifest by digest; blocks on the disk."""
        return Manifest.from_json(self.read(digest))

    def may_read(self, digest: str) -> None:
        """A user may read everything, a node what the tasks leased to it refer to. Raises ARTIFACT_FORBIDDEN."""
        peer = current_peer()
        if peer.kind == "node" and not self._ledger.leases.may_read(peer.name, digest):
            raise QuantfleetError(
                ErrorCode.ARTIFACT_FORBIDDEN,
                f"no task leased to node {peer.name} refers to artifact {digest}",
                "a node reads only what its tasks need",
            )

    async def collect(self, age_s: float) -> None:
        """Delete the artifacts older than `age_s` that no job refers to."""
        kept: set[str] = set()
        for entry in self._ledger.jobs.values():
            kept |= entry.spec.inputs()
            kept.update(*(manifest.digests() for manifest in entry.manifests.values()))
            kept.update(digest for result in entry.results.values() for digest in artifacts_of(result))
        doomed = collectable(self._records.values(), kept, time.time(), age_s)
        self._deleting.update(doomed)
        try:
            for digest in doomed:
                del self._records[digest]
            await self._ledger.record(deletes=[(ArtifactRecord, (digest,)) for digest in doomed])
            for digest in doomed:
                await asyncio.to_thread(self._directory.delete, digest)
        finally:
            self._deleting.difference_update(doomed)
        await asyncio.to_thread(self._directory.sweep, time.time() - age_s)
