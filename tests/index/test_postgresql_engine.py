"""A PostgreSQL server that hangs: nothing waits for it without limit, and everything works when it answers again."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from backup_scp.dicom.attributes import Level
from backup_scp.errors import IndexUnavailable
from backup_scp.index.connection import postgresql_engine
from backup_scp.index.connection.database import index_url
from backup_scp.index.connection.migrate import upgrade
from backup_scp.index.sql_index import SQLIndex
from backup_scp.node.opening import open_index
from backup_scp.node.settings import NodeSettings, Settings
from backup_scp.node.settings.sections import IndexSettings
from backup_scp.ports import AddResult, Task
from tests.index.conftest import opened
from tests.index.examples import MORNING, answers, version
from tests.postgres import frozen, own_server, postgres_database
from tests.processes import LOOPBACK
from tests.relay import Relay

PATIENCE_S = 60.0
"""Of the tests: without limits the threads would wait for ever."""


@pytest.fixture
def little_patience(monkeypatch):
    monkeypatch.setattr(postgresql_engine, "ANSWER_S", 0.3)
    monkeypatch.setattr(postgresql_engine, "CONNECT_S", 2)


@pytest.fixture(scope="module")
def own_server_url():
    with own_server() as url:
        yield url


class Silence:
    """Begins where the block begins, and ends with it."""

    def __init__(self, url, silent):
        self.url = url
        self.silent = silent


@pytest.fixture(params=["frozen", "swallowed"])
def server(request, little_patience, own_server_url):
    with postgres_database(own_server_url) as url:
        if request.param == "frozen":
            yield Silence(url, partial(frozen, url))
            return
        parts = index_url(url)
        with Relay((parts.host or LOOPBACK, parts.port or 5432)) as relay:

            @contextlib.contextmanager
            def swallowed():
                relay.swallows = True
                yield
                relay.swallows = False

            yield Silence(str(parts.set(host=LOOPBACK, port=relay.port)), swallowed)


WORKS = {
    "a usual instance": lambda index: index.add(version("1.9", minute=1)),
    "another version": lambda index: index.add(version("1.1", minute=1, content="other")),
    "a look": lambda index: index.look_up(version("1.1").key, version("1.1").sha256, ""),
    "a query": lambda index: answers(index, Level.STUDY),
    "status": lambda index: index.holdings(),
    "a task": lambda index: index.record_task(Task("verify", MORNING)),
}


@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
@pytest.mark.parametrize("is_known", [True, False], ids=["an open connection", "a new one"])
def test_a_server_that_says_nothing_is_waited_for_with_a_limit(server, work, is_known):
    with opened(server.url) as index:
        index.add(version("1.1"))
        work(index)
        if not is_known:
            index.close()
        with ThreadPoolExecutor(1) as pool:
            with server.silent():
                failure = pool.submit(work, index).exception(PATIENCE_S)
            assert isinstance(failure, IndexUnavailable)
            assert "answer" in str(failure)
        work(index)


def test_all_who_wait_come_back_and_the_connections_are_enough_again(server, monkeypatch):
    with opened(server.url) as index:
        for number in range(40):
            index.add(version(f"1.{number}", study=f"2.{number}"))
        with ThreadPoolExecutor(40) as pool:
            with server.silent():
                works = [pool.submit(index.add, version(f"3.{n}", study=f"2.{n}", minute=n)) for n in range(40)]
                failures = [work.exception(PATIENCE_S) for work in works]
            assert all(isinstance(failure, IndexUnavailable) for failure in failures)
            monkeypatch.undo()  # forty at once may need more than a little patience on a busy machine
            again = list(pool.map(lambda n: index.add(version(f"3.{n}", study=f"2.{n}", minute=n)), range(40)))
        assert set(again) <= {AddResult.NEW, AddResult.HELD}  # the server may have done what it was asked for
        assert index.holdings().instances == 80


def test_long_work_is_waited_for_as_long_as_the_server_answers_others(little_patience, postgres_url):
    with opened(postgres_url) as index, index._database.reading() as connection:
        assert connection.scalar(sa.text("SELECT 7 FROM pg_sleep(2)")) == 7
    with opened(postgres_url) as index, index._database.autocommit() as direct, pytest.raises(sa.exc.DBAPIError):
        direct.execute(sa.text("SELECT 7 FROM pg_sleep(60)"))


def test_the_server_is_told_to_notice_that_a_node_is_gone(postgres_url):
    with opened(postgres_url) as index, index._database.reading() as connection:
        shown = [connection.scalar(sa.text(f"SHOW {name}")) for name in ("tcp_user_timeout", "lock_timeout")]
    assert shown == ["30000", "15s"]


def test_what_the_url_says_of_keepalives_counts(postgres_url):
    with opened(f"{postgres_url}?keepalives_idle=77") as index, index._database.reading() as connection:
        driver: Any = connection.connection.driver_connection
        assert driver.info.get_parameters()["keepalives_idle"] == "77"


def test_a_server_that_allows_too_few_connections_is_told_of(own_server_url, postgres_url):
    with postgres_database(own_server_url) as url, opened(url) as index:
        assert index.too_few_connections(1) == ""
        told = index.too_few_connections(2)
        assert told.startswith("PostgreSQL allows this node 97 connections, and it may need 132 (2 processes, 64 each")
        with index._database.writing() as connection:
            connection.exec_driver_sql("ALTER ROLE backup_scp CONNECTION LIMIT 20")
        assert "allows this node 20 connections, and it may need 68 (1 process, 64 each" in index.too_few_connections(1)
        with index._database.writing() as connection:
            connection.exec_driver_sql("ALTER ROLE backup_scp CONNECTION LIMIT -1")


@pytest.mark.parametrize(("workers", "each"), [(1, 64), (4, 16), (64, 8)])
def test_the_processes_of_a_node_share_the_connections_out(postgres_url, workers, each):
    settings = Settings(home=Path(), node=NodeSettings(workers=workers), index=IndexSettings(url=postgres_url))
    with contextlib.closing(open_index(settings, migrate=True)) as index, contextlib.ExitStack() as stack:
        assert isinstance(index, SQLIndex)
        database = index._database
        for _ in range(each):
            stack.enter_context(database.reading()).exec_driver_sql("SELECT 1")
        vars(database._engine.pool)["_timeout"] = 0.1
        with pytest.raises(IndexUnavailable, match="every connection is in use"):
            stack.enter_context(database.reading())


def test_idle_connections_leave_enough_for_queries(postgres_url):
    """Connections kept for the next read count in the pool."""
    with contextlib.closing(SQLIndex(postgres_url, 8)) as index:
        upgrade(postgres_url)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: index.add(version(f"1.{n}", study=f"2.{n}")), range(40)))
        with contextlib.ExitStack() as stack:
            for _ in range(6):
                stack.enter_context(index._database.reading()).exec_driver_sql("SELECT 1")


RECORD = """
CREATE TABLE seen (setting text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$;
CREATE TRIGGER sees BEFORE INSERT OR UPDATE ON version FOR EACH ROW EXECUTE FUNCTION see();
CREATE TRIGGER sees BEFORE INSERT ON task FOR EACH ROW EXECUTE FUNCTION see();
CREATE TRIGGER sees BEFORE INSERT OR UPDATE ON archive FOR EACH ROW EXECUTE FUNCTION see();
"""


def test_rows_of_images_do_not_wait_and_all_else_does_also_behind_what_pools_connections(postgres_url):
    """It gives each transaction another server connection, without the settings of the first one."""
    with opened(postgres_url) as index:
        with index._database.writing() as connection:
            connection.exec_driver_sql(RECORD)
        index.close()
        others = ["off"]

        @sa.event.listens_for(index._database._engine, "checkout")
        def another_connection(connection, _record, _proxy):
            connection.execute(f"SET SESSION synchronous_commit = {others[0]}")
            connection.commit()

        def seen() -> set[str]:
            with index._database.writing() as connection:
                return set(connection.exec_driver_sql("DELETE FROM seen RETURNING setting").scalars())

        for others[0] in ("off", "on"):
            study = f"2.{others[0]}"
            assert index.add(version(f"1.1.{others[0]}", study=study)) is AddResult.NEW
            assert index.add(version(f"1.1.{others[0]}", study=study, minute=1, content="x")) is AddResult.VERSION
            assert index.add(version(f"1.2.{others[0]}", study=study, minute=2)) is AddResult.NEW
            assert seen() == {"off"}
            index.flush()
            assert seen() == {"on"}
            index.record_task(Task("verify", MORNING))
            assert seen() == {"on"}
