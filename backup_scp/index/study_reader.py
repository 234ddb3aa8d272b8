"""Answer from the index what a caller may see: every statement has the caller's sites in it (docs/adr/0063)."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import datetime
from functools import partial

import sqlalchemy as sa

from backup_scp.dicom.query.information_model import Query
from backup_scp.index.connection.database import Database
from backup_scp.index.reading import buffered_rows, history, select
from backup_scp.index.reading.newest import newest
from backup_scp.index.records import statistics
from backup_scp.index.writing.version_rows import stored_instance_key
from backup_scp.ports import (
    SEES_ALL,
    Holdings,
    InstanceKey,
    Match,
    NewestStudies,
    ReadVersion,
    RecentStudy,
    Selection,
    SiteScope,
    StoredVersion,
    VersionMatch,
)

_BATCH_VERSIONS, _BATCH_STUDIES = 1000, 200


class SQLStudyReader:
    """Implements ``ports.StudyReader``; threads share it.

    Parameters
    ----------
    database
        The index.
    scope
        The sites that it answers from.
    """

    def __init__(self, database: Database, scope: SiteScope = SEES_ALL) -> None:
        self._database = database
        self._scope = scope

    def seen_by(self, scope: SiteScope) -> SQLStudyReader:
        within = self._scope & scope
        return self if within == self._scope else SQLStudyReader(self._database, within)

    def versions_of(self, key: InstanceKey) -> list[StoredVersion]:
        with self._database.reading() as connection:
            rows = connection.execute(select.versions_of(stored_instance_key(key), self._scope))
            return [select.held_row(row) for row in rows]

    def search(self, query: Query) -> Generator[Match, None, None]:
        keywords = [attribute.keyword for attribute in select.returned_keys(query)]
        with contextlib.closing(
            buffered_rows.rows(self._database, lambda: select.prepare(query, self._database.dialect, self._scope))
        ) as rows:
            for row in rows:
                yield dict(zip(keywords, row, strict=True))

    def newest_matches(
        self,
        queries: Sequence[Query],
        most: int,
        *,
        skip: int = 0,
        arrived_since: datetime | None = None,
        in_all: bool = False,
    ) -> NewestStudies:
        return newest(self._database, queries, most, skip, arrived_since, self._scope, in_all=in_all)

    def search_as_of(self, query: Query, as_of: datetime, read: ReadVersion) -> Generator[Match, None, None]:
        return history.search(self._database, query, as_of, read, self._scope)

    def search_versions(self, query: Query) -> Generator[VersionMatch, None, None]:
        def prepare() -> select.Search:
            return select.Search(select.search_versions(query, self._database.dialect, self._scope), None)

        with contextlib.closing(buffered_rows.rows(self._database, prepare)) as rows:
            for row in rows:
                yield select.version_match(query, row)

    def retrieve(self, query: Query) -> list[StoredVersion]:
        def prepare() -> select.Search:
            return select.retrieve(query, self._database.dialect, self._scope)

        with contextlib.closing(buffered_rows.rows(self._database, prepare)) as rows:
            return [select.held_row(row) for row in rows]

    def select(self, selection: Selection) -> list[StoredVersion]:
        scope = self._scope & selection.scope
        return self._held(lambda: select.select(selection, self._database.dialect, scope=scope))

    def select_in_batches(self, selection: Selection) -> Generator[list[StoredVersion], None, None]:
        dialect, scope = self._database.dialect, self._scope & selection.scope
        studies, counts = array("q"), array("q")  # arrays, because there may be a million
        with self._database.reading(stream=True) as connection:
            for study_id, count in connection.execute(select.selected_studies(selection, dialect, scope)):
                studies.append(study_id)
                counts.append(count)
        for start, end in _batches(counts):
            yield self._held(partial(select.select, selection, dialect, studies[start:end].tolist(), scope))

    def _held(self, statement: Callable[[], sa.Select[tuple[object, ...]]]) -> list[StoredVersion]:
        with self._database.reading(stream=True) as connection, connection.execute(statement()) as rows:
            return [select.held_row(row) for row in rows]

    def holdings(self) -> Holdings:
        with self._database.reading() as connection:
            return statistics.holdings(connection, self._scope)

    def newest_studies(self, most: int) -> list[RecentStudy]:
        with self._database.reading() as connection:
            return statistics.newest_studies(connection, most, self._scope)


def _batches(counts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Divide studies into batches of limited numbers of versions and of studies."""
    start = versions = 0
    for end, count in enumerate(counts, 1):
        versions += count
        if versions >= _BATCH_VERSIONS or end - start >= _BATCH_STUDIES:
            yield start, end
            start, versions = end, 0
    if start < len(counts):
        yield start, len(counts)
