"""Answer from an SQLite index without SQLAlchemy, as long as nothing is due at a copy (docs/adr/0024).

Loading SQLAlchemy takes longer than all that ``copies sync`` does when nothing is due, which is nearly every time.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Never

from backup_scp.index.schema.head import HEAD
from backup_scp.index.schema.stored_text import moment, stored_key, stored_long, timestamp
from backup_scp.machine import clock
from backup_scp.ports import CopyItem, MassChange, Task, VerificationResult

_WAIT_S = 1  # for another writer; ``SQLIndex`` then waits longer
_REMARKABLE = "(flags <> '' OR damage IS NOT NULL)"  # exactly the text of the partial index
_REVISION = "SELECT version_num FROM alembic_version"
_DAMAGED = f"SELECT count(*) FROM version WHERE {_REMARKABLE} AND damage IS NOT NULL"  # noqa: S608 - our own text

# More studies than ``storms`` counts: of all senders together.
_CHANGED = """SELECT count(DISTINCT series.study_id) FROM version
JOIN instance ON instance.id = version.instance_id JOIN series ON series.id = instance.series_id
WHERE version.received_at >= ? AND version.instance_id IN
    (SELECT instance_id FROM version WHERE patient_id IS NOT NULL)"""

# No version above or below the range of a copy, and no work on versions in it.
_HAS_ALL = """SELECT coalesce((SELECT min(id) FROM version) >= first_version, 1)
    AND coalesce((SELECT max(id) FROM version) <= last_version, 1)
    AND NOT EXISTS (SELECT 1 FROM copy_due WHERE copy_id = copy.id)
FROM copy WHERE id = ? AND name <> ''"""
_ENDS = "SELECT (SELECT min(id) FROM version), (SELECT max(id) FROM version)"  # of both at once SQLite reads all rows
_HEALABLE = f"""SELECT 1 FROM version WHERE {_REMARKABLE} AND damage IS NOT NULL AND EXISTS
    (SELECT 1 FROM copy_object WHERE copy_id = ? AND version_id = version.id AND is_damaged = 0) LIMIT 1"""  # noqa: S608


class NotQuiet(Exception):  # noqa: N818 - no error
    """Something is due, unusual or wrong: begin again with the whole index, which finds out what.

    Attributes
    ----------
    damaged
        Images that were found damaged meanwhile: record them there.
    """

    def __init__(self, damaged: Iterable[VerificationResult] = ()) -> None:
        super().__init__()
        self.damaged = tuple(damaged)


class _Answering:
    """Raises ``NotQuiet`` for all that it does not have."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __getattr__(self, _: str) -> Never:
        raise NotQuiet

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error:
            raise NotQuiet from None  # the text may have values

    def _value(self, statement: str, *values: Any) -> Any:
        rows = self._rows(statement, *values)
        return rows[0][0] if rows else None


class QuietIndex(_Answering):
    """The part of ``ports.Index`` that a copy asks while nothing is due.

    Parameters
    ----------
    path
        The SQLite file.

    Raises
    ------
    NotQuiet
        The file is not there, is not a current index in WAL mode, or is locked.
    """

    def __init__(self, path: Path) -> None:
        try:
            super().__init__(
                sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", _WAIT_S, uri=True, isolation_level=None)
            )
        except sqlite3.Error:
            raise NotQuiet from None
        self.copies = QuietCopies(self._connection)
        try:
            found = self._value("PRAGMA journal_mode"), self._value(_REVISION)
            self._rows("PRAGMA synchronous=FULL")
        except NotQuiet:
            found = None
        if found != ("wal", HEAD):
            self.close()
            raise NotQuiet

    def close(self) -> None:
        self._connection.close()

    def archive_identity(self) -> str | None:
        return self._value("SELECT identity FROM archive") or None

    def tasks(self) -> dict[str, Task]:
        rows = self._rows("SELECT name, began_at, ended_at, position, done, note FROM task")
        return {
            name: Task(name, moment(began_at), moment(ended_at) if ended_at else None, *rest)
            for name, began_at, ended_at, *rest in rows
        }

    def storms(self, since: datetime, studies: int) -> list[MassChange]:
        if self._value(_CHANGED, timestamp(since)) >= studies:
            raise NotQuiet
        return []

    def count_damaged(self) -> int:
        return int(self._value(_DAMAGED))

    def record_verification(self, results: Iterable[VerificationResult]) -> Never:
        raise NotQuiet(results)


class QuietCopies(_Answering):
    """The part of ``ports.CopyRecords`` that a copy asks while nothing is due."""

    def names_of(self, medium: str) -> set[str]:
        rows = self._rows("SELECT name FROM copy WHERE medium = ? AND name <> ''", stored_key(medium))
        return {name for (name,) in rows}

    def register(self, name: str, medium: str, now: datetime, label: str = "") -> int:
        name, medium = stored_key(name), stored_key(medium)
        number = self._value("SELECT id FROM copy WHERE name = ? AND medium = ?", name, medium)
        if number is None:
            raise NotQuiet
        self._rows("BEGIN IMMEDIATE")
        self._rows("UPDATE copy SET trouble = '', trouble_at = '', trouble_kind = '' WHERE name = ?", name)
        seen = stored_long(label), timestamp(now), number
        self._rows("UPDATE copy SET label = ?, seen_at = ? WHERE id = ?", *seen)
        self._rows("COMMIT")
        return int(number)

    def sample(self, most: int) -> list[str]:
        draw = random.SystemRandom()
        ((first, last),) = self._rows(_ENDS)
        if first is None:
            return []
        next_one = "SELECT location FROM version WHERE id >= ? ORDER BY id LIMIT 1"
        return list({self._value(next_one, draw.randint(first, last)) for _ in range(most)})

    def lease(self, copy: int, *_: object) -> None:
        if self.count_due(copy):
            raise NotQuiet

    def count_due(self, copy: int) -> int:
        if not self._value(_HAS_ALL, copy):
            raise NotQuiet
        return 0

    def comparison(self, copy: int) -> tuple[int, datetime | None]:
        ((position, text),) = self._rows("SELECT compared_version, compared_at FROM copy WHERE id = ?", copy)
        ended_at = moment(text) if text else None
        return position, None if ended_at is None or clock.is_future(ended_at) else ended_at

    def note_complete(self, copy: int, now: datetime) -> None:
        self._rows("UPDATE copy SET complete_at = ? WHERE id = ?", timestamp(now), copy)

    def lost(self, copy: int, _most: int) -> Sequence[CopyItem]:
        if self._rows(_HEALABLE, copy):
            raise NotQuiet
        return []
