import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from quantfleet_coordinator.store.base import Record
from quantfleet_coordinator.store.memory import MemoryStore
from quantfleet_coordinator.store.records import PoolRecord
from quantfleet_coordinator.store.sql import SqliteStore
from quantfleet_coordinator.store.writer import Writer
from quantfleet_domain.errors import ErrorCode, QuantfleetError


class GatedStore(MemoryStore):
    """A real store whose commits wait for `gate`, counts them, and fails while `full`."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.commits: list[list[str]] = []
        self.full = False

    def commit(self, puts: Sequence[Record], deletes: Sequence[tuple[type[Record], Any]] = ()) -> None:
        self.entered.release()
        self.gate.acquire()
        if self.full:
            raise QuantfleetError(ErrorCode.STORAGE_FULL, "the disk is full")
        self.commits.append([record.name for record in puts if isinstance(record, PoolRecord)])
        super().commit(puts, deletes)


def pool(name: str, selector: str = "") -> PoolRecord:
    return PoolRecord(name, selector)


async def start(writer: Writer, *names: str) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(writer.submit([pool(name)])) for name in names]
    await asyncio.sleep(0)
    return tasks


def test_queued_submissions_become_one_commit() -> None:
    async def body() -> None:
        store = GatedStore()
        writer = Writer(store)
        first = await start(writer, "0")
        await asyncio.to_thread(store.entered.acquire)
        rest = await start(writer, *"abcdefgh")
        store.gate.release(2)
        await asyncio.gather(*first, *rest)
        await writer.close()
        assert store.commits == [["0"], list("abcdefgh")]

    asyncio.run(body())


def test_a_caller_resumes_only_when_its_write_is_durable() -> None:
    async def body() -> None:
        store = GatedStore()
        writer = Writer(store)
        (task,) = await start(writer, "a")
        await asyncio.to_thread(store.entered.acquire)
        assert not task.done()
        store.gate.release()
        await task
        assert store.all(PoolRecord) == [pool("a")]
        await writer.close()

    asyncio.run(body())


def test_the_order_of_calls_is_the_order_of_effects() -> None:
    async def body() -> None:
        store = GatedStore()
        writer = Writer(store)
        first = await start(writer, "0")
        await asyncio.to_thread(store.entered.acquire)
        delete = [(PoolRecord, ("a",))]
        calls = [
            writer.submit([pool("a", "1"), pool("b")]),
            writer.submit([], delete),
            writer.submit([pool("a", "2")], delete),
            writer.submit([], [(PoolRecord, ("b",))]),
        ]
        store.gate.release(2)
        await asyncio.gather(*first, *calls)
        await writer.close()
        assert store.all(PoolRecord) == [pool("0"), pool("a", "2")]

    asyncio.run(body())


def test_a_failed_commit_fails_its_batch_and_all_behind_it_and_the_writer_serves_on() -> None:
    async def body() -> None:
        store = GatedStore()
        heard: list[str] = []
        writer = Writer(store, lambda error: heard.append(f"{error} {[task.done() for task in [*batch, *behind]]}"))
        opening = await start(writer, "0")
        await asyncio.to_thread(store.entered.acquire)
        batch = await start(writer, "a", "b")
        store.gate.release()
        await asyncio.gather(*opening)
        await asyncio.to_thread(store.entered.acquire)
        behind = await start(writer, "c")
        store.full = True
        store.gate.release()
        outcomes = await asyncio.gather(*batch, *behind, return_exceptions=True)
        assert [isinstance(one, QuantfleetError) and one.code for one in outcomes] == [ErrorCode.STORAGE_FULL] * 3
        assert heard == ["the disk is full [False, False, False]"]
        store.full = False
        store.gate.release()
        await writer.submit([pool("d")])
        await writer.close()
        assert store.all(PoolRecord) == [pool("0"), pool("d")]

    asyncio.run(body())


def test_a_cancelled_caller_does_not_take_its_write_back() -> None:
    async def body() -> None:
        store = GatedStore()
        writer = Writer(store)
        opening = await start(writer, "0")
        await asyncio.to_thread(store.entered.acquire)
        (cancelled,) = await start(writer, "a")
        cancelled.cancel()
        store.gate.release(2)
        await asyncio.gather(*opening)
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await writer.close()
        assert store.all(PoolRecord) == [pool("0"), pool("a")]

    asyncio.run(body())


def test_closing_commits_what_is_queued_and_refuses_more() -> None:
    async def body() -> None:
        store = GatedStore()
        writer = Writer(store)
        tasks = await start(writer, "a", "b", "c")
        closing = asyncio.create_task(writer.close())
        await asyncio.sleep(0)
        with pytest.raises(QuantfleetError) as raised:
            await writer.submit([pool("d")])
        assert raised.value.code is ErrorCode.STORE_FAILED
        store.gate.release(3)
        await asyncio.gather(*tasks, closing)
        await writer.close()
        assert [record.name for record in store.all(PoolRecord)] == ["a", "b", "c"]

    asyncio.run(body())


def test_closing_ends_even_when_the_last_commit_fails() -> None:
    async def body() -> None:
        store = GatedStore()
        store.full = True
        writer = Writer(store)
        opening = await start(writer, "0")
        await asyncio.to_thread(store.entered.acquire)
        queued = await start(writer, "a")
        closing = asyncio.create_task(writer.close())
        await asyncio.sleep(0)
        store.gate.release()
        outcomes = await asyncio.gather(*opening, *queued, return_exceptions=True)
        await closing
        assert all(isinstance(outcome, QuantfleetError) for outcome in outcomes)

    asyncio.run(body())


def test_many_writers_at_once_share_syncs_and_lose_nothing(tmp_path: Path) -> None:
    commits = 0

    class Counting(SqliteStore):
        def commit(self, puts: Sequence[Record], deletes: Sequence[tuple[type[Record], Any]] = ()) -> None:
            nonlocal commits
            commits += 1
            super().commit(puts, deletes)

    async def body() -> None:
        writer = Writer(store)
        await asyncio.gather(*(writer.submit([pool(f"{n:04}", str(n))]) for n in range(1000)))
        await writer.close()

    store = Counting(tmp_path)
    asyncio.run(body())
    assert [int(record.selector) for record in store.all(PoolRecord)] == list(range(1000))
    store.close()
    assert commits < 20
