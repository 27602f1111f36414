"""A coordinator that is started anew, or whose store fails, in the middle of a job."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.coordinator.jobs.fleet_play import Play, ended, join, refused, state, working
from tests.coordinator.jobs.scripted_node import ScriptedNode, job_spec, submit

from quantfleet_coordinator.artifacts.cas import ArtifactDirectory
from quantfleet_coordinator.server import Coordinator
from quantfleet_coordinator.store.base import Key, R, Record, Store, Value
from quantfleet_coordinator.store.records import TaskRecord
from quantfleet_coordinator.testing import LocalFleet
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.spec import FileRef
from quantfleet_protos.v1 import control_pb2, fleet_pb2
from quantfleet_wire.content import digest_bytes
from quantfleet_wire.identity_files import load_credentials


class FailingStore(Store):
    """A store that refuses commits while `failures` last, and reads once `broken`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.failures = 0
        self.broken = False
        self.refused: list[Record] = []

    def commit(self, puts: Sequence[Record], deletes: Sequence[tuple[type[Record], Key]] = ()) -> None:
        if self.failures and any(isinstance(record, TaskRecord) for record in puts):
            self.failures -= 1
            self.refused.extend(puts)
            raise QuantfleetError(ErrorCode.STORAGE_FULL, "the disk is full", "free some space")
        self._store.commit(puts, deletes)

    def all(self, kind: type[R]) -> list[R]:
        return self.where(kind)

    def get(self, kind: type[R], *key: Value) -> R | None:
        return self._store.get(kind, *key)

    def where(self, kind: type[R], **equals: Value) -> list[R]:
        if self.broken:
            raise QuantfleetError(ErrorCode.STORE_FAILED, "the disk is gone", "replace it")
        return self._store.where(kind, **equals)

    def close(self) -> None:
        self._store.close()


class FailingCoordinator(Coordinator):
    def _open_store(self) -> Store:
        self.failing = FailingStore(super()._open_store())
        return self.failing


def failing(fleet: LocalFleet) -> FailingStore:
    assert isinstance(fleet.coordinator, FailingCoordinator)
    return fleet.coordinator.failing


async def scales_of(fleet: LocalFleet, job: str) -> str:
    answer = await fleet.control.GetReport(control_pb2.GetReportRequest(job_id=job))
    return next(file.digest for file in answer.files if file.name == "net/scales.json")


async def events_of(fleet: LocalFleet, job: str) -> list[int]:
    watched = fleet.control.WatchJob(control_pb2.WatchJobRequest(job_id=job))
    return [event.sequence async for event in watched if event.sequence]


def test_a_node_goes_on_with_its_leases_when_the_coordinator_comes_back(play: Play, tmp_path: Path) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        quiet = await submit(fleet, job_spec(shards=1))
        async with working(node):
            await ended(fleet, quiet)
        job = await submit(fleet, job_spec(shards=5))
        await node.complete((await node.acquire())[0])
        held = await node.acquire(5.0)
        for _ in range(3):
            await fleet.restart()
            channel = fleet.channel(load_credentials(tmp_path / "node-n1"))
            node = ScriptedNode(channel, node.devices, node.incarnation, node.last_reply)
            assert await node.heartbeat(held) == []
            await node.complete(held.pop(0))
            if held:
                await refused(node.complete(_earlier(held[0])), ErrorCode.LEASE_STALE)
            held = held or await node.acquire()
        for shard in held:
            await node.complete(shard)
        async with working(node):
            found = await ended(fleet, job)
        assert found.job.state == "succeeded"
        assert await scales_of(fleet, job) == await scales_of(fleet, quiet)
        events = await events_of(fleet, job)
        assert events == list(range(1, len(events) + 1))
        assert {t.epoch for t in found.tasks if t.kind == "calibrate"} == {1}

    play(scenario)


def _earlier(leased: fleet_pb2.LeasedTask) -> fleet_pb2.LeasedTask:
    earlier = fleet_pb2.LeasedTask.FromString(leased.SerializeToString())
    earlier.epoch -= 1
    return earlier


def test_a_reply_that_a_crash_swallowed_is_leased_again(play: Play, tmp_path: Path) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        job = await submit(fleet, job_spec())
        await node.acquire()
        await fleet.restart()
        channel = fleet.channel(load_credentials(tmp_path / "node-n1"))
        ignorant = ScriptedNode(channel, node.devices, node.incarnation, 0)
        await ignorant.heartbeat()
        assert (await state(fleet, job, "net/inspect")).epoch == 2
        async with working(ignorant):
            assert (await ended(fleet, job)).job.state == "succeeded"

    play(scenario)


def test_a_full_disk_fails_the_caller_and_nothing_else(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        quiet = await submit(fleet, job_spec(shards=2))
        async with working(node):
            await ended(fleet, quiet)
        failing(fleet).failures = 1
        await refused(submit(fleet, job_spec(), "again"), ErrorCode.STORAGE_FULL)
        job = await submit(fleet, job_spec(), "again")
        watching = asyncio.create_task(events_of(fleet, job))
        failing(fleet).failures = 1
        await refused(node.acquire(), ErrorCode.STORAGE_FULL)
        assert (await state(fleet, job, "net/inspect")).state == "ready"
        (inspect,) = await node.acquire()
        failing(fleet).failures = 1
        await refused(node.complete(inspect), ErrorCode.STORAGE_FULL)
        assert (await state(fleet, job, "net/inspect")).state == "leased"
        await node.complete(inspect)
        async with working(node):
            # From here on it fails whoever comes: nodes, the merge, the report.
            for _ in range(3):
                failing(fleet).failures = 1
                await asyncio.sleep(0.1)
            found = await ended(fleet, job)
        assert found.job.state == "succeeded"
        assert await scales_of(fleet, job) == await scales_of(fleet, quiet)
        events = await watching
        assert events == list(range(1, len(events) + 1))

    play(scenario, kind=FailingCoordinator)


def test_a_coordinator_that_cannot_read_its_store_again_stops_serving(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        failing(fleet).failures, failing(fleet).broken = 1, True
        await refused(submit(fleet, job_spec()), ErrorCode.STORAGE_FULL)
        async with asyncio.timeout(5):
            await fleet.coordinator.wait()

    play(scenario, kind=FailingCoordinator)


def test_an_artifact_that_a_crash_left_without_a_row_is_stored_after_all(play: Play, tmp_path: Path) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        orphan = b"a model whose row was not written"
        ArtifactDirectory(tmp_path / "state" / "artifacts").put_bytes(orphan)
        model = replace(job_spec().models[0], files=(FileRef("net.onnx", digest_bytes(orphan), len(orphan)),))
        await refused(submit(fleet, job_spec(models=(model,))), ErrorCode.ARTIFACT_NOT_FOUND)
        await fleet.restart()
        await submit(fleet, job_spec(models=(model,)))

    play(scenario)
