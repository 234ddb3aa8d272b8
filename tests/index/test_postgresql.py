from __future__ import annotations

import contextlib

import pytest
import sqlalchemy as sa

from backup_scp.errors import IndexUnavailable
from backup_scp.index import SQLIndex
from backup_scp.index.engine import index_url
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
        assert index.held(first.key, first.sha256)
        with contextlib.closing(SQLIndex(postgres_url)) as other, other._database.writing() as connection:
            connection.execute(
                sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            )
        assert index.held(first.key, first.sha256)
        index.add(version("1.2"))
        assert index.holdings().instances == 2
