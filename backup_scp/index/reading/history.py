"""Answer queries as of a past moment.

Studies that received nothing since that moment are answered from the index.  The other studies are indexed again into
temporary tables, from the files that existed then and by the same rules: the index does not store past states of a
study's values and counts.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Generator, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from backup_scp.dicom.attributes import Level
from backup_scp.dicom.query.information_model import Query
from backup_scp.errors import IndexUnavailable, InvalidSelection
from backup_scp.index.connection.database import ROWS_AT_ONCE, Database
from backup_scp.index.connection.db_errors import explained
from backup_scp.index.connection.sqlite_engine import sqlite_path
from backup_scp.index.reading import select
from backup_scp.index.schema.dialect import Clause, Dialect
from backup_scp.index.schema.sqlite import SQLite
from backup_scp.index.schema.stored_text import timestamp
from backup_scp.index.schema.tables import METADATA, instance, order_of, series, study, version
from backup_scp.index.writing.row_writer import RowWriter
from backup_scp.index.writing.study_cache import StudyCache
from backup_scp.index.writing.version_rows import VersionRows
from backup_scp.index.writing.version_writer import VersionWriter
from backup_scp.ports import SEES_ALL, Match, ReadVersion, SiteScope, Version

LEFTOVER = "as-of-"
CACHE_KIB = 65_536
_PRAGMAS = (
    "PRAGMA journal_mode=OFF",  # no journal file: after an error the tables are dropped
    "PRAGMA synchronous=OFF",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA locking_mode=EXCLUSIVE",
    f"PRAGMA cache_size=-{CACHE_KIB}",
)
_NEWER = study.alias("newer")


def search(
    database: Database, query: Query, as_of: datetime, read: ReadVersion, scope: SiteScope = SEES_ALL
) -> Generator[Match, None, None]:
    """See ``Index.search_as_of``; one transaction gives one state, while images arrive."""
    keys = select.returned_keys(query)
    asked = {*keys, *(condition.attribute for condition in query.conditions)}
    if query.level is Level.PATIENT or any(a.computed and a.level is Level.PATIENT for a in asked):
        raise InvalidSelection("Patients cannot be listed as of a time: ask for the studies of that time")
    received_since = _received_since(as_of)
    with database.reading(stream=True, snapshot=True) as connection, _tables(database) as past:
        locations = connection.execute(_changed(query, database.dialect, as_of, scope)).scalars()
        of_tables = SQLite()
        _enter(past, of_tables, filter(None, map(read, locations)))
        former = past.execution_options(yield_per=ROWS_AT_ONCE).execute(_search(query, of_tables, scope))
        same = connection.execute(_search(query, database.dialect, scope).where(~received_since))
        for row in heapq.merge(same, former, key=lambda row: row[-1], reverse=True):
            yield {key.keyword: value for key, value in zip(keys, row, strict=False)}


def _search(query: Query, dialect: Dialect, scope: SiteScope) -> sa.Select[Any]:
    """Select the answers, with the sort key as last column."""
    order = study.c.study_date_key if query.level is Level.STUDY else sa.literal("")
    return select.search(query, dialect, scope).add_columns(order)


def _received_since(as_of: datetime) -> Clause:
    """Match study rows whose UID received something since: a correction moves instances between rows of one UID."""
    of_the_same = _NEWER.c.study_instance_uid == study.c.study_instance_uid
    return sa.exists().where(of_the_same, _NEWER.c.last_received_at > timestamp(as_of))


def _changed(query: Query, dialect: Dialect, as_of: datetime, scope: SiteScope) -> sa.Select[Any]:
    """Select the locations of the versions that these studies had then, in the order of arrival.

    It can narrow by Study Instance UID only: every other value that a query may name can have changed since.
    """
    named = [condition for condition in query.conditions if condition.attribute.keyword == "StudyInstanceUID"]
    studies = sa.select(study.c.id).where(_received_since(as_of), *select.clauses(named, dialect))
    return (
        sa.select(version.c.location)
        .select_from(version.join(instance).join(series))
        .where(series.c.study_id.in_(studies.correlate(None)), version.c.received_at <= timestamp(as_of))
        .where(*select.within(scope, version))
        .order_by(order_of(version), version.c.location)
    )


@contextlib.contextmanager
def _tables(beside: Database) -> Iterator[sa.Connection]:
    """Create empty private tables that leave nothing behind, even after a crash.

    They are in memory while they fit, then in a file without a name; for an SQLite index on the index's own disk.
    """
    parent = sqlite_path(beside.url).parent if beside.is_sqlite else None
    try:
        driver = _nameless(parent)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise IndexUnavailable(f"There is no room for the tables of that time ({reason})") from None
    url = sa.make_url("sqlite://")
    engine = sa.create_engine(url, hide_parameters=True, creator=lambda: driver, poolclass=sa.StaticPool)
    with contextlib.closing(driver), explained(url), engine.connect() as connection:
        METADATA.create_all(connection)
        yield connection


def _nameless(folder: Path | None) -> sqlite3.Connection:
    """Open a database and remove the name of its file before anything is written."""
    descriptor, name = tempfile.mkstemp(prefix=LEFTOVER, dir=folder)
    os.close(descriptor)
    connection = sqlite3.connect(name, check_same_thread=False)
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        connection.execute("SELECT 1 FROM sqlite_master").fetchall()  # makes SQLite open the file
    except sqlite3.Error:
        connection.close()
        raise
    finally:
        with contextlib.suppress(PermissionError):  # Windows: an open file is removed when it is closed
            Path(name).unlink()
    return connection


def sweep(beside: Database) -> None:
    """Remove the folders that a killed search of an earlier release left; they contain patient names."""
    parent = sqlite_path(beside.url).parent if beside.is_sqlite else Path(tempfile.gettempdir())
    with contextlib.suppress(OSError):
        for found in parent.glob(f"{LEFTOVER}*"):
            if found.is_dir() and not found.is_symlink() and (found / "then.sqlite").is_file() and _is_ours(found):
                shutil.rmtree(found, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    return not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()


def _enter(connection: sa.Connection, dialect: Dialect, versions: Iterable[Version]) -> None:
    known, rows = StudyCache(), RowWriter(connection, dialect)
    for each in versions:
        writer = VersionWriter(rows, known)
        writer.insert(VersionRows.of(each))
        writer.remember()
