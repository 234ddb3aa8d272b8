from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from backup_scp.index.connection.migrate import upgrade
from backup_scp.index.sql_index import SQLIndex
from tests.postgres import postgres_database

pytest.register_assert_rewrite("tests.index.contract")

ENGINES = ("sqlite", "postgresql")


@contextlib.contextmanager
def opened(url: str) -> Iterator[SQLIndex]:
    upgrade(url)
    with contextlib.closing(SQLIndex(url)) as index:
        yield index


@pytest.fixture
def transactions(index, monkeypatch) -> Callable[[], int]:
    """Return ``transactions()``: how many of the usual way ``index`` has begun by then."""
    begun, write_fast = [], index._database.write_fast

    def noted():
        begun.append(True)
        return write_fast()

    monkeypatch.setattr(index._database, "write_fast", noted)
    return lambda: len(begun)


@pytest.fixture
def small_batches(monkeypatch) -> None:
    """Let few rows be many."""
    monkeypatch.setattr("backup_scp.index.connection.database.ROWS_AT_ONCE", 5)
    monkeypatch.setattr("backup_scp.index.reading.buffered_rows.ROWS_AT_ONCE", 5)
    monkeypatch.setattr("backup_scp.index.records.statistics.BATCH", 10)
    monkeypatch.setattr("backup_scp.index.records.rejections.MOST", 20)
    monkeypatch.setattr("backup_scp.index.records.rejections.MOST_OF_ONE_ADDRESS", 8)


@pytest.fixture(params=ENGINES)
def url(request, tmp_path) -> str:
    """Give an empty database on each engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/index.db"
    return request.getfixturevalue("postgres_url")


@pytest.fixture(scope="module", params=ENGINES)
def shared_index(request, tmp_path_factory) -> Iterator[SQLIndex]:
    """Yield an index on each engine for a module's tests, which empty it themselves."""
    if request.param == "sqlite":
        with opened(f"sqlite:///{tmp_path_factory.mktemp('index')}/index.db") as index:
            yield index
    else:
        with postgres_database(request.getfixturevalue("postgres_server_url")) as url, opened(url) as index:
            yield index
