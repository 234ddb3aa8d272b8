from __future__ import annotations

import contextlib
import sqlite3

import pytest

from backup_scp.errors import IndexUnavailable, InvalidSettings
from backup_scp.index import SQLIndex, engine
from backup_scp.index.migrate import upgrade
from tests.index.conftest import opened
from tests.index.contract import IndexContract
from tests.index.examples import version


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index.db"


class TestSQLiteIndex(IndexContract):
    @pytest.fixture
    def index(self, path):
        with opened(f"sqlite:///{path}") as index:
            yield index

    @pytest.fixture
    def further_index(self, index, path):
        with contextlib.closing(SQLIndex(f"sqlite:///{path}")) as further:
            yield further


def test_every_commit_reaches_the_disk(path):
    with opened(f"sqlite:///{path}") as index, index._database.writing() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_lock_that_is_not_given_back_is_an_error_in_plain_words(path, monkeypatch):
    monkeypatch.setattr(engine, "_SQLITE_PRAGMAS", (*engine._SQLITE_PRAGMAS, "PRAGMA busy_timeout=10"))
    with opened(f"sqlite:///{path}") as index, contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(IndexUnavailable, match="another process keeps it locked") as caught:
            index.add(version(PatientID="SECRET"))
        assert "SECRET" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        other.rollback()
        index.add(version())
        assert index.holdings().instances == 1


def test_a_place_without_wal_is_refused(path):
    """The dot-file locks of some network shares leave no room for it."""
    url = f"sqlite:///file:{path}?vfs=unix-dotfile&uri=true"
    with (
        contextlib.closing(SQLIndex(url)) as index,
        pytest.raises(IndexUnavailable, match="local disk"),
    ):
        index.holdings()


def test_what_is_not_an_index_is_said_to_be_none(path):
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(IndexUnavailable, match="rebuild"):
        upgrade(f"sqlite:///{path}")


def test_an_index_without_tables_says_what_to_do(path):
    with contextlib.closing(SQLIndex(f"sqlite:///{path}")) as index:
        with pytest.raises(IndexUnavailable, match="db upgrade"):
            index.add(version())
        with pytest.raises(IndexUnavailable, match="db upgrade"):
            index.holdings()


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://here/x", "sqlite://", "sqlite:///:memory:"])
def test_a_url_that_cannot_be_an_index(url):
    with pytest.raises(InvalidSettings):
        SQLIndex(url)
