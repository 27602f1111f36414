"""A store in memory, for embedded mode and tests. Not for a coordinator that must survive its process."""

from collections.abc import Sequence
from threading import Lock
from typing import Any

from quantfleet_coordinator.store.base import Key, R, Record, Store, Value, columns, key_of, unknown_kind
from quantfleet_coordinator.store.kinds import KINDS


class MemoryStore(Store):
    """Keeps the records of `kinds` until the process ends; `close` forgets nothing."""

    def __init__(self, kinds: Sequence[type[Record]] = KINDS) -> None:
        # The values are of the kind that is their table's key, which no type can say.
        self._tables: dict[type[Record], dict[Key, Any]] = {kind: {} for kind in kinds}
        self._lock = Lock()

    def commit(self, puts: Sequence[Record], deletes: Sequence[tuple[type[Record], Key]] = ()) -> None:
        """See `Store.commit`."""
        held = [(self._table(type(record)), type(record)(**columns(record))) for record in puts]
        gone = [(self._table(kind), key) for kind, key in deletes]
        with self._lock:
            for table, key in gone:
                table.pop(key, None)
            for table, record in held:
                table[key_of(record)] = record

    def all(self, kind: type[R]) -> list[R]:
        """See `Store.all`."""
        return self.where(kind)

    def get(self, kind: type[R], *key: Value) -> R | None:
        """See `Store.get`."""
        with self._lock:
            return self._table(kind).get(key)

    def where(self, kind: type[R], **equals: Value) -> list[R]:
        """See `Store.where`."""
        with self._lock:
            table = self._table(kind)
            return [
                table[key]
                for key in sorted(table)
                if all(getattr(table[key], name) == value for name, value in equals.items())
            ]

    def close(self) -> None:
        """See `Store.close`."""

    def _table(self, kind: type[Record]) -> dict[Key, Any]:
        if kind not in self._tables:
            raise unknown_kind(kind)
        return self._tables[kind]
