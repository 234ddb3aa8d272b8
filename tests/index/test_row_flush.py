"""The rows of versions become durable later; after a failed write SQLite's log is copied before it is trusted."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from backup_scp.errors import IndexUnavailable
from backup_scp.index.connection.database import Database
from backup_scp.index.connection.migrate import upgrade
from backup_scp.index.records import archive_state
from backup_scp.index.records.archive_state import RowFlush


@pytest.fixture
def database(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'index.sqlite'}"
    upgrade(url)
    with contextlib.closing(Database(url)) as database:
        yield database


@pytest.fixture
def copied(database, monkeypatch) -> list[bool]:
    """Note how the log was tidied."""
    asked: list[bool] = []
    tidy = database.tidy_log

    def noting(*, whole: bool = False) -> None:
        asked.append(whole)
        tidy(whole=whole)

    monkeypatch.setattr(database, "tidy_log", noting)
    return asked


def fail_a_write(database: Database) -> None:
    with pytest.raises(IndexUnavailable), database.writing("other things"):
        raise sa.exc.OperationalError("COMMIT", None, sqlite3.OperationalError("disk I/O error"))


def log_bytes(database: Database) -> int:
    return Path(f"{database.url.database}-wal").stat().st_size


def test_another_write_that_failed_lets_the_next_flush_copy_the_log(database, copied):
    rows = RowFlush(database)
    rows.flush()
    fail_a_write(database)

    rows.flush()
    rows.flush()

    assert copied == [False, True, False]


def test_a_flush_that_failed_is_not_forgotten_for_one_beside_it(database, copied, monkeypatch):
    rows = RowFlush(database)
    record, begun = archive_state._record, threading.Event()

    def fails(*_: object) -> None:
        begun.set()
        database.failed_writes += 1
        raise IndexUnavailable("Full")

    monkeypatch.setattr(archive_state, "_record", fails)
    failing = threading.Thread(target=_quietly, args=(rows,))
    failing.start()
    begun.wait(10)
    failing.join()
    monkeypatch.setattr(archive_state, "_record", record)

    rows.flush()

    assert copied == [False, True]


def _quietly(rows: RowFlush) -> None:
    with contextlib.suppress(IndexUnavailable):
        rows.flush()


def test_a_log_that_is_read_is_not_called_copied(database):
    rows = RowFlush(database)
    fail_a_write(database)
    with contextlib.closing(sqlite3.connect(str(database.url.database), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM archive").fetchall()
        archive_state.record_identity(database, "a" * 32)
        with pytest.raises(IndexUnavailable, match="it is read"):
            rows.flush()

    rows.flush()

    assert log_bytes(database) < 100_000


def test_an_error_of_the_driver_is_one_of_ours(database, monkeypatch):
    """A checkpoint thread knows what to do with it."""

    def fails(*_: object, **__: object) -> None:
        raise sa.exc.OperationalError("PRAGMA", None, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr("backup_scp.index.connection.database.copy_log", fails)
    with pytest.raises(IndexUnavailable):
        database.tidy_log(whole=True)
