"""The index as it was at a moment.

What nothing was received for since answers as it stands.  The studies that something was received for are entered
anew, from the files that were there, by the same rules into tables of their own: what a study says and counts is made
of its instances, and is not kept for every moment.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Generator, Iterable, Iterator
from datetime import datetime
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa

from backup_scp.attributes import Level
from backup_scp.errors import IndexUnavailable, InvalidSelection
from backup_scp.index import queries
from backup_scp.index.admission import Entrance
from backup_scp.index.dialect import Clause, Dialect
from backup_scp.index.engine import Database, sqlite_path
from backup_scp.index.facts import Facts
from backup_scp.index.known import KnownStudies
from backup_scp.index.tables import METADATA, instance, order_of, series, study, version
from backup_scp.index.values import timestamp
from backup_scp.information_model import Query
from backup_scp.ports import Match, Read, Version

_NEWER = study.alias("newer")


def search(database: Database, query: Query, as_of: datetime, read: Read) -> Generator[Match, None, None]:
    """See ``Index.search_as_of``; one transaction sees one state, whatever is received meanwhile."""
    keys = queries.returned_keys(query)
    asked = {*keys, *(condition.attribute for condition in query.conditions)}
    if query.level is Level.PATIENT or any(a.computed and a.level is Level.PATIENT for a in asked):
        raise InvalidSelection("A patient as of a time cannot be told: ask for the studies of that time")
    received_since = _received_since(as_of)
    with database.reading(stream=True, snapshot=True) as connection, _tables(database) as then:
        locations = connection.execute(_changed(query, database.dialect, as_of)).scalars()
        _enter(then, filter(None, map(read, locations)))
        with then.reading(stream=True) as past:
            former = past.execute(_search(query, then.dialect))
            same = connection.execute(_search(query, database.dialect).where(~received_since))
            for row in heapq.merge(same, former, key=lambda row: row[-1], reverse=True):
                yield {key.keyword: value for key, value in zip(keys, row, strict=False)}


def _search(query: Query, dialect: Dialect) -> sa.Select[Any]:
    """Select answers, and behind them what they are in order of."""
    order = study.c.study_date_key if query.level is Level.STUDY else sa.literal("")
    return queries.search(query, dialect).add_columns(order)


def _received_since(as_of: datetime) -> Clause:
    """Hold for the study rows whose UID something came for since: a correction moves instances between rows of one."""
    of_the_same = _NEWER.c.study_instance_uid == study.c.study_instance_uid
    return sa.exists().where(of_the_same, _NEWER.c.last_received_at > timestamp(as_of))


def _changed(query: Query, dialect: Dialect, as_of: datetime) -> sa.Select[Any]:
    """Select the locations of what was there of those studies, in the order of arrival.

    Of all that a query may ask for, a Study Instance UID alone never changes.
    """
    named = [condition for condition in query.conditions if condition.attribute.keyword == "StudyInstanceUID"]
    studies = sa.select(study.c.id).where(_received_since(as_of), *queries.clauses(named, dialect))
    return (
        sa.select(version.c.location)
        .select_from(version.join(instance).join(series))
        .where(series.c.study_id.in_(studies.correlate(None)), version.c.received_at <= timestamp(as_of))
        .order_by(order_of(version), version.c.location)
    )


@contextlib.contextmanager
def _tables(beside: Database) -> Iterator[Database]:
    """Make empty tables that nobody else can read, gone after use; where the index is a file, on the same disk."""
    with contextlib.ExitStack() as stack:
        parent = sqlite_path(beside.url).parent if beside.is_sqlite else None
        try:
            folder = stack.enter_context(TemporaryDirectory(prefix="as-of-", dir=parent))
        except OSError as error:
            raise IndexUnavailable(f"There is no room for the tables of that time ({error.strerror})") from None
        database = stack.enter_context(contextlib.closing(Database(f"sqlite:///{folder}/then.sqlite")))
        sqlite_path(database.url).touch()
        with database.writing() as connection:
            METADATA.create_all(connection)
        yield database


def _enter(database: Database, versions: Iterable[Version]) -> None:
    known = KnownStudies()
    with database.writing() as connection:
        for each in versions:
            entrance = Entrance(connection, database.dialect, known, alone=True)
            entrance.admit(Facts.of(each))
            entrance.remember()
