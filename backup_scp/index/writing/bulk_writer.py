"""Many new instances on one connection: what is written for each one by one is written for all of them at once.

An ``Entrance`` writes two new rows for each instance, and changes two that it has changed before.  Where nobody else
writes, the new ones can wait, and of the others the last state is enough: a fifth of the statements.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa

from backup_scp.index.schema.dialect import Dialect
from backup_scp.index.schema.rows import Row
from backup_scp.index.schema.tables import instance
from backup_scp.index.writing import statements

_IDS_AT_ONCE = 500
_OF_NO_STUDY = (statements.LOAD_STUDY, statements.LOAD_SERIES, statements.INSERT_SERIES, statements.UPDATE_STUDY)


class Gathering:
    """Stands in for a connection in a transaction in which nobody else writes; ``flush`` it before that ends.

    Parameters
    ----------
    connection
        The one that it writes to.
    dialect
        The engine's.
    """

    def __init__(self, connection: sa.Connection, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect
        self._ids: Iterator[int] = iter(())
        self._met: set[str] = set()
        self._instances: list[Row] = []
        self._versions: list[Row] = []
        self._revisions: dict[int, int] = {}
        self._changes: dict[tuple[sa.Executable, int], Row] = {}

    def expect(self, uids: Iterable[str]) -> None:
        """Look at once which of the SOP Instance UIDs are there; no others may come."""
        known = sa.select(instance.c.sop_instance_uid)
        here = known.where(self._dialect.among(instance.c.sop_instance_uid, uids))
        self._met.update(self._connection.scalars(here))

    def execute(self, statement: sa.Executable, row: Any = None) -> Any:
        """Execute a statement: with others of its kind where it can wait, else after all that waits."""
        if statement is statements.FIND_INSTANCES and row["uid"] not in self._met:
            return _Answer()
        if statement is statements.INSERT_INSTANCE:
            self._met.add(row["sop_instance_uid"])
            number = self._next_id()
            self._instances.append({**row, "id": number})
            return _Answer(number)
        if statement is statements.INSERT_VERSION:
            self._versions.append(row)
            return _Answer()
        if statement is statements.UPDATE_SERIES or self._is_latest(statement, row):
            known = self._changes.setdefault((statement, row["of"]), row)
            known |= {column: value for column, value in row.items() if column != "known_revision"}
            return _Answer()
        self.flush()
        if statement not in _OF_NO_STUDY:
            self._revisions.clear()
        done = self._connection.execute(statement, row)
        if statement is statements.UPDATE_STUDY and done.rowcount:
            self._revisions[row["of"]] = row["revision"]
        return done

    def _is_latest(self, statement: sa.Executable, row: Any) -> bool:
        """Tell whether it changes a study row that is known to be as the change expects it."""
        if statement is not statements.UPDATE_STUDY or self._revisions.get(row["of"]) != row["known_revision"]:
            return False
        self._revisions[row["of"]] = row["revision"]
        return True

    def flush(self) -> None:
        """Execute what waits; its order is that of the references between the tables."""
        for (statement, _), row in self._changes.items():
            self._connection.execute(statement, row)
        self._changes = {}
        for statement, rows in (
            (statements.INSERT_INSTANCE, self._instances),
            (statements.INSERT_VERSION, self._versions),
        ):
            if rows:
                self._connection.execute(statement, rows)
        self._instances, self._versions = [], []

    def _next_id(self) -> int:
        number = next(self._ids, None)
        if number is None:
            self.flush()
            self._ids = iter(self._dialect.new_ids(self._connection, instance, _IDS_AT_ONCE))
            number = next(self._ids)
        return number


class _Answer:
    """What an ``Entrance`` asks of the result of a statement that waits."""

    rowcount = 1

    def __init__(self, number: int = 0) -> None:
        self.inserted_primary_key = (number,)

    def mappings(self) -> _Answer:
        return self

    def all(self) -> list[Any]:
        """Give the rows that were found."""
        return []
