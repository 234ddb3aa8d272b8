"""The index in SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from backup_scp.index.connection.database import MOST_CONNECTIONS, Database
from backup_scp.index.connection.db_errors import TransactionConflict
from backup_scp.index.reading import history, select
from backup_scp.index.records import archive_state, rejections, statistics, tasks
from backup_scp.index.records.commitments import SQLCommitments
from backup_scp.index.records.copies import SQLCopies
from backup_scp.index.records.drill_results import SQLDrills
from backup_scp.index.schema.stored_text import stored_key
from backup_scp.index.schema.tables import study
from backup_scp.index.study_reader import SQLStudyReader
from backup_scp.index.writing.group_commit import GroupCommit
from backup_scp.index.writing.study_cache import StudyCache
from backup_scp.index.writing.study_reindexer import StudyReindexer
from backup_scp.index.writing.version_rows import VersionRows, stored_instance_key
from backup_scp.ports import (
    AddResult,
    Arrival,
    ClockDoubt,
    DiskFault,
    FirstArrival,
    FlaggedVersion,
    InstanceKey,
    IntakeTotals,
    Lookup,
    MassChange,
    ReadVersion,
    Rejection,
    StoredVersion,
    Task,
    VerificationResult,
    Version,
)

if TYPE_CHECKING:
    from backup_scp.index.writing.optimistic_insert import OptimisticInsert

_Result = TypeVar("_Result")

_ATTEMPTS = 10


class SQLIndex(SQLStudyReader):
    """Implements ``ports.Index``; one object serves all threads of a process.

    Parameters
    ----------
    url
        ``sqlite:///path`` or ``postgresql://user@host/database``; ``migrate.upgrade`` creates its tables.
    connections
        Maximum number of this process's connections to a PostgreSQL server.

    Raises
    ------
    InvalidSettings
        The URL cannot be used.
    """

    def __init__(self, url: str, connections: int = MOST_CONNECTIONS) -> None:
        super().__init__(Database(url, connections))
        self._connections = connections
        self._known = StudyCache()
        self._entering = self._way_in()
        self._rows = archive_state.RowFlush(self._database)
        self._verifications = statistics.Verifications(self._database)
        self._commitments = SQLCommitments(self._database)
        self._copies = SQLCopies(self._database)
        self._drills = SQLDrills(self._database)
        self.on_damage: Callable[[str, str], None] = _tell_nobody

    def add(self, version: Version, read: ReadVersion | None = None) -> AddResult:
        facts = VersionRows.of(version)
        admission, is_out_of_order = _again_if_it_met_another(lambda: self._entering.enter(facts))
        if is_out_of_order and read:
            _again_if_it_met_another(lambda: self._enter_anew([facts], read))
        return admission

    def flush(self) -> None:
        self._rows.flush()

    def _way_in(self) -> GroupCommit | OptimisticInsert:
        if self._database.is_sqlite:
            return GroupCommit(self._database, self._known)
        from backup_scp.index.writing.optimistic_insert import OptimisticInsert

        return OptimisticInsert(self._database, self._known)

    def look_up(self, key: InstanceKey, sha256: str, site: str) -> Lookup:
        if not self._entering.may_be_held(stored_key(key.sop_instance_uid)):
            return Lookup()
        asked = select.to_meet(stored_instance_key(key), sha256, stored_key(site))
        return select.met(self._database.fetch_one(select.MEET, asked))

    def held(self, key: InstanceKey, sha256: str, site: str) -> tuple[str, Arrival] | None:
        return self.look_up(key, sha256, site).held

    def sweep(self) -> None:
        history.sweep(self._database)

    def versions(self, before: datetime | None = None) -> Iterator[StoredVersion]:
        return self._verifications.versions(before)

    def forget_future_verifications(self) -> None:
        self._verifications.forget_future()

    def record_verification(self, results: Iterable[VerificationResult]) -> None:
        self._verifications.record(results, self.on_damage)

    def record_return(self, locations: Sequence[str]) -> None:
        self._verifications.record_return(locations)

    def is_damaged(self, location: str) -> bool:
        with self._database.reading() as connection:
            return statistics.is_damaged(connection, location)

    def unindexed(self, locations: Iterable[str]) -> Iterator[str]:
        return self._verifications.unindexed(locations)

    def reindex_studies(self, versions: Sequence[Version], read: ReadVersion, task: Task) -> int:
        found = [VersionRows.of(version) for version in versions]
        return _again_if_it_met_another(lambda: self._enter_anew(found, read, task))

    def _enter_anew(self, found: Sequence[VersionRows], read: ReadVersion, task: Task | None = None) -> int:
        with self._database.writing("studies of a rebuild", first=task is None) as connection:
            self._database.dialect.lock_table(connection, study)
            entered = StudyReindexer(connection, self._database.dialect, read).enter(found)
            if task:
                tasks.record(connection, self._database.dialect, task)
        return entered  # the cached study rows are outdated now: their revision differs

    def record_task(self, task: Task) -> None:
        with self._database.writing("progress of long work") as connection:
            tasks.record(connection, self._database.dialect, task)

    def begin_task(self, task: Task) -> bool:
        with self._database.writing("an order") as connection:
            return tasks.begin(connection, self._database.dialect, task)

    def tasks(self) -> dict[str, Task]:
        with self._database.reading() as connection:
            return tasks.known(connection)

    def is_empty(self) -> bool:
        with self._database.reading() as connection:
            return statistics.is_empty(connection)

    def clock_doubt(self) -> ClockDoubt:
        with self._database.reading() as connection:
            return statistics.clock_doubt(connection)

    def count_damaged(self) -> int:
        with self._database.reading() as connection:
            return statistics.count_damaged(connection)

    def remarks(self, limit: int) -> list[FlaggedVersion]:
        with self._database.reading() as connection:
            return statistics.remarks(connection, limit)

    def storms(self, since: datetime, studies: int) -> list[MassChange]:
        with self._database.reading() as connection:
            return statistics.storms(connection, since, studies)

    def record_rejections(self, found: Sequence[Rejection], settled: Sequence[Rejection] = ()) -> None:
        rejections.record(self._database, found, settled)

    def rejections(self, limit: int) -> list[Rejection]:
        with self._database.reading() as connection:
            return rejections.listed(connection, limit)

    @property
    def commitments(self) -> SQLCommitments:
        return self._commitments

    @property
    def copies(self) -> SQLCopies:
        return self._copies

    @property
    def drills(self) -> SQLDrills:
        return self._drills

    def snapshot(self, path: Path) -> None:
        from backup_scp.index.connection.index_copy import snapshot

        snapshot(self._database, path)

    def archive_identity(self) -> str | None:
        with self._database.reading() as connection:
            return archive_state.identity(connection)

    def record_archive_identity(self, identity: str) -> None:
        archive_state.record_identity(self._database, identity)

    def archive_trouble(self) -> DiskFault | None:
        with self._database.reading() as connection:
            return archive_state.trouble(connection)

    def record_archive_trouble(self, sentence: str) -> None:
        archive_state.record_trouble(self._database, sentence)

    def received_since(self, since: datetime) -> IntakeTotals:
        with self._database.reading() as connection:
            return archive_state.received_since(connection, since)

    def verified_at(self, locations: Sequence[str]) -> dict[str, datetime]:
        with self._database.reading() as connection:
            return statistics.verified_at(connection, self._database.dialect, locations)

    def first_arrivals(self, since: datetime) -> Generator[FirstArrival, None, None]:
        with self._database.reading(stream=True) as connection:
            yield from statistics.first_arrivals(connection, since)

    def too_few_connections(self, processes: int) -> str:
        with self._database.reading() as connection:
            return self._database.dialect.too_few_connections(connection, processes, self._connections)

    def damage(self) -> str:
        return self._database.damage

    @property
    def is_replaced(self) -> bool:
        return self._database.is_replaced

    def accept(self) -> None:
        self._database.accept()

    def close(self) -> None:
        self._database.close()


def _tell_nobody(_location: str, _damage: str) -> None:
    pass


def _again_if_it_met_another(work: Callable[[], _Result]) -> _Result:
    for _ in range(_ATTEMPTS):
        try:
            return work()
        except TransactionConflict:
            continue
    return work()
