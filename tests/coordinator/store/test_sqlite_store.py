import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable
from tests.contract.store_contract import KINDS_IN_TEST, M6, M8, BoltRecord, StoreContract

from quantfleet_coordinator.store.base import Store
from quantfleet_coordinator.store.kinds import KINDS
from quantfleet_coordinator.store.records import EventRecord, PoolRecord
from quantfleet_coordinator.store.sql import SqliteStore
from quantfleet_domain.errors import ErrorCode, QuantfleetError


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = SqliteStore(tmp_path, KINDS_IN_TEST)
        yield store
        store.close()


def refusal(directory: Path) -> QuantfleetError:
    with pytest.raises(QuantfleetError) as raised:
        SqliteStore(directory)
    assert raised.value.code is ErrorCode.STORE_FAILED
    assert str(directory) in raised.value.what
    return raised.value


def test_what_was_committed_is_there_after_closing_and_opening(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "new" / "state", KINDS_IN_TEST)
    store.commit([M6, M8])
    store.commit([replace(M6, note="blue")], [(BoltRecord, ("a", 8))])
    store.close()
    again = SqliteStore(tmp_path / "new" / "state", KINDS_IN_TEST)
    assert again.all(BoltRecord) == [replace(M6, note="blue")]
    again.close()


def test_every_commit_is_synced_to_the_disk(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    with store._engine.connect() as connection:
        settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    store.close()
    assert settings == ["wal", 2]  # 2 is FULL


def test_a_state_directory_has_one_owner(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from quantfleet_coordinator.store.sql import SqliteStore\n"
        "store = SqliteStore(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        assert f"process {owner.pid}" in refusal(tmp_path).what
        owner.kill()
        owner.wait()
    SqliteStore(tmp_path).close()  # a dead owner owns nothing
    SqliteStore(tmp_path).close()


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    SqliteStore(tmp_path).close()
    with sqlite3.connect(tmp_path / "coordinator.db") as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    connection.close()
    error = refusal(tmp_path)
    assert "schema 99" in error.what
    assert "newer" in error.todo
    refusal(tmp_path)  # the refused opening gave the directory back


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "coordinator.db").write_bytes(b"not a database" * 1000)
    assert "not a database" in refusal(tmp_path).what


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refusal(tmp_path / "file" / "state")


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from quantfleet_coordinator.store.sql import SqliteStore\n"
        "from quantfleet_coordinator.store.records import EventRecord, PoolRecord\n"
        "store = SqliteStore(Path(sys.argv[1])); start = len(store.all(EventRecord))\n"
        "for n in range(start, 10**9):\n"
        "    store.commit([EventRecord('job', n, bytes(3000)), PoolRecord('last', str(n))])\n"
        "    print(n, flush=True)\n"
    )
    acknowledged = -1
    for stop_after in (40, 1, 25):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            for _ in range(stop_after):
                acknowledged = int(child.stdout.readline())
            child.kill()
            acknowledged = max([acknowledged, *(int(line) for line in child.stdout if line.endswith("\n"))])
            assert child.wait() == -signal.SIGKILL
        store = SqliteStore(tmp_path)
        sequences = [record.sequence for record in store.all(EventRecord)]
        last = store.get(PoolRecord, "last")
        store.close()
        # One commit may be on the disk whose acknowledgement was not printed; it is there whole.
        assert sequences == list(range(len(sequences)))
        assert last == PoolRecord("last", str(sequences[-1]))
        assert acknowledged <= sequences[-1] <= acknowledged + 1


def test_a_full_disk_is_a_typed_error_and_the_store_serves_on(tmp_path: Path) -> None:
    limit = {"pages": 100}

    def limit_pages(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {limit['pages']}")

    store = SqliteStore(tmp_path, KINDS_IN_TEST)
    store.commit([M6])
    event.listen(store._engine, "checkout", limit_pages)
    big = replace(M8, photo=bytes(1 << 20))
    with pytest.raises(QuantfleetError) as raised:
        store.commit([replace(M6, note="lost"), big])
    assert raised.value.code is ErrorCode.STORAGE_FULL
    assert str(tmp_path) in raised.value.what
    assert store.all(BoltRecord) == [M6]
    store.commit([M8])
    limit["pages"] = 10_000
    store.commit([big])
    assert store.all(BoltRecord) == [M6, big]
    store.close()


def test_every_kind_can_be_kept_in_postgresql(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    ddl = [str(CreateTable(store._table(kind)).compile(dialect=dialect)) for kind in KINDS]
    store.close()
    assert len(set(ddl)) == len(KINDS)
    assert 'job_id TEXT COLLATE "C" NOT NULL' in ddl[KINDS.index(EventRecord)]
    assert "PRIMARY KEY (job_id, sequence)" in ddl[KINDS.index(EventRecord)]
