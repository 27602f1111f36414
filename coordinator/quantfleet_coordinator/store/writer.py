"""One thread that writes, many callers that wait: group commit for the event loop. Not for reading, nor for deciding.

Whatever is queued while a commit runs becomes the next commit, in the order of `submit`; so a busy coordinator pays
for one sync of the disk where it would pay for dozens.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quantfleet_coordinator.store.base import Key, Record, Store, key_of
from quantfleet_domain.errors import ErrorCode, QuantfleetError


@dataclass(frozen=True)
class _Submission:
    puts: tuple[Record, ...]
    deletes: tuple[tuple[type[Record], Key], ...]
    durable: "asyncio.Future[None]"


class Writer:
    """Commits to `store` on a thread of its own. Made, used and closed on one running event loop.

    When a commit fails, every submission of its batch and everything queued behind it fails with the same error,
    because what was decided later may rest on what was lost. Nothing of them is stored. `on_failure` is called with
    the error on the event loop before any of those callers resumes: whoever keeps state in memory there marks it as
    no longer the store's, and reloads it from the store before it submits again. After that the writer serves on.
    """

    def __init__(self, store: Store, on_failure: Callable[[Exception], None] | None = None) -> None:
        self._store = store
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Submission | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    async def submit(self, puts: Sequence[Record], deletes: Sequence[tuple[type[Record], Key]] = ()) -> None:
        """Delete, then put, as `Store.commit` does; returns when that is durable.

        The order of calls is the order of effects. A caller that is cancelled does not take its write back.
        Raises STORAGE_FULL or STORE_FAILED.
        """
        if self._closed:
            raise QuantfleetError(ErrorCode.STORE_FAILED, "the coordinator is stopping", "try again when it is back")
        submission = _Submission(tuple(puts), tuple(deletes), self._loop.create_future())
        self._queue.put(submission)
        await submission.durable

    async def close(self) -> None:
        """Refuse new submissions, commit those that are queued, and end the thread; the store stays open."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while True:
            batch, last = self._next_batch()
            if batch:
                error = self._commit(batch)
                settled = threading.Event()
                try:
                    self._loop.call_soon_threadsafe(self._settle, batch, error, settled)
                except RuntimeError:  # the loop is closed: nobody waits any more
                    return
                if error is not None:
                    settled.wait()
            if last:
                return

    def _next_batch(self) -> tuple[list[_Submission], bool]:
        batch: list[_Submission] = []
        item = self._queue.get()
        while item is not None:
            batch.append(item)
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _commit(self, batch: list[_Submission]) -> Exception | None:
        # Only the last effect on a key reaches the store: a later submission may delete what an earlier one put.
        effects: dict[tuple[type[Record], Key], Record | None] = {}
        for submission in batch:
            effects.update(dict.fromkeys(submission.deletes))
            effects.update({(type(record), key_of(record)): record for record in submission.puts})
        try:
            self._store.commit(
                [record for record in effects.values() if record is not None],
                [target for target, record in effects.items() if record is None],
            )
        except Exception as error:
            return error
        return None

    def _settle(self, batch: list[_Submission], error: Exception | None, settled: threading.Event) -> None:
        if error is not None:
            batch = batch + self._drain()
            settled.set()
            if self._on_failure is not None:
                self._on_failure(error)
        for submission in batch:
            if submission.durable.done():
                continue
            if error is None:
                submission.durable.set_result(None)
            else:
                submission.durable.set_exception(error)

    def _drain(self) -> list[_Submission]:
        # Runs on the event loop while the thread waits, so nothing can be submitted in between.
        drained: list[_Submission] = []
        while not self._queue.empty():
            item = self._queue.get_nowait()
            if item is None:
                self._queue.put(None)
                break
            drained.append(item)
        return drained
