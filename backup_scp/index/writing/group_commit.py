"""Versions that several threads enter at one moment share a transaction, and with it one flush of the log.

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
from backup_scp.ports import AddResult, InstanceKey

_MOST = 64
_FIND_UID = sa.select(instance.c.id).where(instance.c.sop_instance_uid == sa.bindparam("uid"))


@dataclass(slots=True, eq=False)
class _Queued:
    """What one thread waits for."""

    facts: VersionRows
    admission: AddResult = AddResult.NEW
    is_out_of_order: bool = False
    error: Exception | None = None
    is_entered: bool = False
    is_over: bool = False


class GroupCommit:
    """Enters versions into an SQLite index, where one transaction at a time can write.

    Parameters
    ----------
    database
        The index.
    known
        Study rows to begin from.
    """

    def __init__(self, database: Database, known: StudyCache) -> None:
        self._database = database
        self._known = known
        self._waiting: deque[_Queued] = deque()
        self._lock = threading.Lock()

    def may_be_held(self, key: InstanceKey) -> bool:
        """Tell whether the SOP Instance UID is known; a search for the version costs twice as much.

        Raises
        ------
        IndexUnavailable
        """
        return self._database.fetch_one(_FIND_UID, {"uid": key.sop_instance_uid}) is not None

    def enter(self, facts: VersionRows) -> tuple[AddResult, bool]:
        """Enter a version; on return its row is durable.  The second value is ``VersionWriter.is_out_of_order``.

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
            raise turn.error or IndexUnavailable("The index was left while it was written; try again") from None
        return turn.admission, turn.is_out_of_order

    def _enter(self, turns: list[_Queued]) -> None:
        """Enter these; whatever happens, each is over then, for its thread waits for that."""
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
                    writer.remember()  # for the next in this transaction, too; forgotten if it fails
                at = None
        except BaseException as error:
            for turn in turns:
                self._known.pop(turn.facts.study_key)
            if not isinstance(error, Exception):  # Ctrl-C, in the thread that enters those of the others, too
                raise
            self._fail(turns, error, by_one=at is not None)
        else:
            for turn in turns:
                turn.is_entered = True

    def _fail(self, turns: list[_Queued], error: Exception, *, by_one: bool) -> None:
        """Undone: when it was by one of several, each goes on its own, so that it fails alone."""
        if by_one and len(turns) > 1:
            for turn in turns:
                self._enter([turn])
            return
        for turn in turns:
            turn.error = type(error)(*error.args) if isinstance(error, IndexUnavailable) else error
