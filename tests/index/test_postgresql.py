from __future__ import annotations

import contextlib

import pytest
import sqlalchemy as sa

from backup_scp.errors import IndexUnavailable
from backup_scp.index.connection.database import index_url
from backup_scp.index.schema.stored_text import lock_number
from backup_scp.index.sql_index import SQLIndex
from backup_scp.index.writing.row_writer import RowWriter
from backup_scp.index.writing.study_cache import StudyCache
from backup_scp.index.writing.version_rows import VersionRows
from backup_scp.index.writing.version_writer import VersionWriter
from tests.index.conftest import opened
from tests.index.contract import IndexContract
from tests.index.examples import version


class TestPostgreSQLIndex(IndexContract):
    @pytest.fixture
    def index(self, postgres_url):
        with opened(postgres_url) as index:
            yield index

    @pytest.fixture
    def further_index(self, index, postgres_url):
        with contextlib.closing(SQLIndex(postgres_url)) as further:
            yield further


def test_a_plain_url_means_psycopg():
    assert index_url("postgresql://u@h/d").drivername == "postgresql+psycopg"


def test_every_commit_reaches_the_disk(postgres_url):
    with opened(postgres_url) as index, index._database.writing() as connection:
        assert connection.scalar(sa.text("SHOW synchronous_commit")) == "on"


def test_who_enters_a_version_holds_its_uid_and_keeps_out_who_enters_studies_anew(postgres_url):
    with opened(postgres_url) as index, index._database.write_fast() as connection:
        database = index._database
        VersionWriter(RowWriter(connection, database.dialect), StudyCache()).insert(VersionRows.of(version()))
        with database.reading() as another:
            held = another.exec_driver_sql(
                "SELECT locktype, mode FROM pg_locks LEFT JOIN pg_class ON pg_class.oid = relation"
                " WHERE (locktype = 'advisory' OR relname = 'study') AND mode <> 'AccessShareLock'"
            ).all()
            (number,) = another.exec_driver_sql(
                "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory'"
            ).one()
    assert {("advisory", "ExclusiveLock"), ("relation", "RowExclusiveLock")} <= set(map(tuple, held))
    assert number == lock_number("1.2.3.4.5")


def test_a_server_that_is_not_there_is_an_error_in_plain_words():
    with contextlib.closing(SQLIndex("postgresql://secret:word@127.0.0.1:9/x")) as index:
        with pytest.raises(IndexUnavailable, match="is it running") as caught:
            index.add(version(PatientID="SECRET"))
        assert "word" not in str(caught.value)
        assert "SECRET" not in str(caught.value)


def test_an_index_without_tables_says_what_to_do(postgres_url):
    with contextlib.closing(SQLIndex(postgres_url)) as index, pytest.raises(IndexUnavailable, match="db upgrade"):
        index.add(version())


def test_a_connection_that_was_lost_is_made_again(postgres_url):
    with opened(postgres_url) as index:
        first = version("1.1")
        index.add(first)
        assert index.held(first.key, first.sha256, "")
        with contextlib.closing(SQLIndex(postgres_url)) as other, other._database.writing() as connection:
            connection.execute(
                sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            )
        assert index.held(first.key, first.sha256, "")
        index.add(version("1.2"))
        assert index.holdings().instances == 2
