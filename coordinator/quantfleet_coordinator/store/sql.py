"""The store in an SQL database through SQLAlchemy Core: SQLite for one coordinator. Not for who writes when."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from threading import Lock
from typing import Any, Final

from sqlalchemy import (
    URL,
    BigInteger,
    Boolean,
    Column,
    Double,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    insert,
    inspect,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.types import TypeEngine

from quantfleet_coordinator.store.base import Key, R, Record, Store, Value, columns, key_of, type_of, unknown_kind
from quantfleet_coordinator.store.kinds import KINDS
from quantfleet_coordinator.store.ownership import Ownership
from quantfleet_domain.errors import ErrorCode, QuantfleetError

SCHEMA_VERSION: Final = 1
"""The version of the tables. It is raised when a record's fields change in a way that older tables do not hold."""

_COLUMN_TYPES: Final[dict[Any, TypeEngine[Any]]] = {
    # Keys are ordered by code point in every store; PostgreSQL's default collation would follow its locale.
    str: Text().with_variant(Text(collation="C"), "postgresql"),
    int: BigInteger(),
    float: Double(),
    bool: Boolean(),
    bytes: LargeBinary(),
}
_UPSERTS: Final[dict[str, Callable[[Table], Any]]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_BUSY_TIMEOUT_MS: Final = 10_000
_DISK_FULL_SQLSTATE: Final = "53100"  # https://www.postgresql.org/docs/current/errcodes-appendix.html


class SqlStore(Store):
    """One table per kind of record in the database of `engine`; `name` is what errors call it.

    Opening makes the tables. Raises STORE_FAILED when the database cannot be opened or was written by a newer version.
    """

    def __init__(self, engine: Engine, name: str, kinds: Sequence[type[Record]] = KINDS) -> None:
        self._engine = engine
        self._name = name
        self._metadata = MetaData()
        self._version = Table("schema_version", self._metadata, Column("version", Integer, primary_key=True))
        self._tables = {kind: _table(kind, self._metadata) for kind in kinds}
        # Readers do not wait in WAL; writers would, by polling for SQLite's lock.
        self._writing = Lock()
        try:
            self._prepare()
        except QuantfleetError:
            engine.dispose()
            raise

    def commit(self, puts: Sequence[Record], deletes: Sequence[tuple[type[Record], Key]] = ()) -> None:
        """See `Store.commit`."""
        rows: dict[type[Record], dict[Key, dict[str, Value]]] = {}
        for record in puts:
            rows.setdefault(type(record), {})[key_of(record)] = columns(record)
        statements = [(self._upsert(kind), list(by_key.values())) for kind, by_key in rows.items()]
        with self._writing, self._errors(), self._engine.begin() as connection:
            for kind, key in deletes:
                table = self._table(kind)
                connection.execute(table.delete().where(*_equal(table, zip(kind.KEY, key, strict=True))))
            for statement, values in statements:
                connection.execute(statement, values)

    def all(self, kind: type[R]) -> list[R]:
        """See `Store.all`."""
        return self.where(kind)

    def get(self, kind: type[R], *key: Value) -> R | None:
        """See `Store.get`."""
        found = self.where(kind, **dict(zip(kind.KEY, key, strict=True)))
        return found[0] if found else None

    def where(self, kind: type[R], **equals: Value) -> list[R]:
        """See `Store.where`."""
        table = self._table(kind)
        query = select(table).where(*_equal(table, equals.items())).order_by(*table.primary_key.columns)
        with self._errors(), self._engine.connect() as connection:
            return [kind(**row) for row in connection.execute(query).mappings()]

    def close(self) -> None:
        """See `Store.close`."""
        self._engine.dispose()

    def _prepare(self) -> None:
        with self._errors(), self._engine.begin() as connection:
            if inspect(connection).has_table(self._version.name):
                version = connection.execute(select(self._version.c.version)).scalar()
                if version is not None and version > SCHEMA_VERSION:
                    what = f"{self._name} has schema {version}, and this program knows schemas up to {SCHEMA_VERSION}"
                    todo = "run the version of quantfleet that wrote it, or a newer one"
                    raise QuantfleetError(ErrorCode.STORE_FAILED, what, todo)
            self._metadata.create_all(connection)
            if connection.execute(select(self._version.c.version)).scalar() is None:
                connection.execute(insert(self._version), {"version": SCHEMA_VERSION})

    def _table(self, kind: type[Record]) -> Table:
        if kind not in self._tables:
            raise unknown_kind(kind)
        return self._tables[kind]

    def _upsert(self, kind: type[Record]) -> Any:
        table = self._table(kind)
        statement = _UPSERTS[self._engine.dialect.name](table)
        new = {column.name: statement.excluded[column.name] for column in table.columns if not column.primary_key}
        if not new:
            return statement.on_conflict_do_nothing()
        return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=new)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            if isinstance(error, DBAPIError) and _is_full(error.orig):
                todo = "free space on that disk; what was acknowledged is safe"
                raise QuantfleetError(ErrorCode.STORAGE_FULL, f"the disk of {self._name} is full", todo) from error
            cause = error.orig if isinstance(error, DBAPIError) else error
            todo = "check that file, its disk and its permissions; what was acknowledged is kept there"
            raise QuantfleetError(ErrorCode.STORE_FAILED, f"{self._name} failed: {cause}", todo) from error


class SqliteStore(SqlStore):
    """The store in `directory`/coordinator.db, owned by this process until `close`.

    `directory` is on a local disk (SQLite's WAL does not work on a network's). Raises STORE_FAILED when another
    coordinator has it open, when the file is no database of ours, or was written by a newer version.
    """

    def __init__(self, directory: Path, kinds: Sequence[type[Record]] = KINDS) -> None:
        self._ownership = Ownership(directory)
        path = directory / "coordinator.db"
        try:
            engine = create_engine(URL.create("sqlite", database=str(path)))
            event.listen(engine, "connect", _configure)
            super().__init__(engine, str(path), kinds)
        except BaseException:
            self._ownership.release()
            raise

    def close(self) -> None:
        """See `Store.close`."""
        super().close()
        self._ownership.release()


def _configure(connection: sqlite3.Connection, _: object) -> None:
    # https://www.sqlite.org/pragma.html: with WAL, FULL (and not NORMAL) syncs at every commit.
    for pragma in ("journal_mode = WAL", "synchronous = FULL", f"busy_timeout = {_BUSY_TIMEOUT_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _table(kind: type[Record], metadata: MetaData) -> Table:
    key = set(kind.KEY)
    name = kind.__name__.removesuffix("Record").lower()
    by_name = {
        field.name: Column(
            field.name,
            _COLUMN_TYPES[type_of(field)],
            primary_key=field.name in key,
            autoincrement=False,
            nullable=False,
        )
        for field in fields(kind)
    }
    # The primary key's columns come in the order of KEY, which is the order of reading.
    rest = [column for field_name, column in by_name.items() if field_name not in key]
    return Table(name, metadata, *[by_name[field_name] for field_name in kind.KEY], *rest)


def _equal(table: Table, pairs: Any) -> list[Any]:
    return [table.c[name] == value for name, value in pairs]


def _is_full(error: BaseException | None) -> bool:
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return getattr(error, "sqlstate", None) == _DISK_FULL_SQLSTATE
