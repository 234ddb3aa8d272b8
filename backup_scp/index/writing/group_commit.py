"""Group commit: versions that several threads add together share one transaction.

No artificial delay: the thread that gets the lock commits all versions queued by then in one transaction.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import sqlalchemy as sa

from backup_scp.errors import IndexUnavailable
from backup_scp.index.connection.database import Database
from backup_scp.index.schema.tables import instance
from backup_scp.index.writing.row_writer import RowWriter
from backup_scp.index.writing.study_cache import StudyCache
from backup_scp.index.writing.version_rows import VersionRows
from backup_scp.index.writing.version_writer import VersionWriter
from backup_scp.ports import AddResult

_MOST = 64
_FIND_UID = sa.select(instance.c.id).where(instance.c.sop_instance_uid == sa.bindparam("uid"))


@dataclass(slots=True, eq=False)
class _Queued:
    """A version in the queue, whose thread waits."""

    facts: VersionRows
    admission: AddResult = AddResult.NEW
    is_out_of_order: bool = False
    error: Exception | None = None
    is_entered: bool = False
    is_over: bool = False


class GroupCommit:
    """Adds versions to an SQLite index, in which only one transaction at a time can write.

    Parameters
    ----------
    database
        The index.
    known
        Cached study rows.
    """

    def __init__(self, database: Database, known: StudyCache) -> None:
        self._database = database
        self._known = known
        self._waiting: deque[_Queued] = deque()
        self._lock = threading.Lock()

    def may_be_held(self, sop_instance_uid: str) -> bool:
        """Tell whether the SOP Instance UID exists; a search for the version would cost twice as much.

        Raises
        ------
        IndexUnavailable
        """
        return self._database.fetch_one(_FIND_UID, {"uid": sop_instance_uid}) is not None

    def enter(self, facts: VersionRows) -> tuple[AddResult, bool]:
        """Add a version; its row is durable after ``SQLIndex.flush``.

        The second value is ``VersionWriter.is_out_of_order``.

        Raises
        ------
        IndexUnavailable
        """
        turn = _Queued(facts)
        self._waiting.append(turn)
        with self._lock:
            while not turn.is_over:
                self._enter([self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST))])
        if not turn.is_entered:
            raise turn.error or IndexUnavailable("Writing to the index was interrupted; try again") from None
        return turn.admission, turn.is_out_of_order

    def _enter(self, turns: list[_Queued]) -> None:
        """Add these versions; give each a result or an error in every case, because its thread waits for one."""
        try:
            self._enter_or_fail(turns)
        finally:
            for turn in turns:
                turn.is_over = True

    def _enter_or_fail(self, turns: list[_Queued]) -> None:
        at = None
        try:
            with self._database.write_fast() as connection:
                rows = RowWriter(connection, self._database.dialect)
                for at in turns:
                    writer = VersionWriter(rows, self._known)
                    at.admission = writer.insert(at.facts)
                    at.is_out_of_order = writer.is_out_of_order
                    writer.remember()  # for the next version in this transaction too; dropped if it fails
                at = None
        except BaseException as error:
            for turn in turns:
                self._known.pop(turn.facts.study_key)
            if not isinstance(error, Exception):  # Ctrl-C in the thread that also adds the versions of others
                raise
            self._fail(turns, error, by_one=at is not None)
        else:
            for turn in turns:
                turn.is_entered = True

    def _fail(self, turns: list[_Queued], error: Exception, *, by_one: bool) -> None:
        """Handle a rollback: when one of several versions caused it, add each alone, so that only that one fails."""
        if by_one and len(turns) > 1:
            for turn in turns:
                self._enter([turn])
            return
        for turn in turns:
            turn.error = type(error)(*error.args) if isinstance(error, IndexUnavailable) else error
