"""Lease rows of work: one worker at a time holds a row, until a time, and a failed row is tried again later.

A table of work has the columns ``id``, ``state``, ``due_at`` (time of the next step), ``leased_until`` and ``lease``
(both empty while no worker holds the row).  Times may have been written while a clock was ahead (docs/adr/0028).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from backup_scp.index.connection.database import Database
from backup_scp.index.schema.stored_text import timestamp
from backup_scp.machine import clock

FREE = {"leased_until": "", "lease": ""}
"""Values of a row without a lease."""


class Leases:
    """The leases of one table.

    Parameters
    ----------
    database
        The index's connections.
    table
        The table of work.
    what
        Names the rows in errors.
    longest_pause
        The longest delay of a row; a later ``due_at`` was written while a clock was ahead.
    """

    def __init__(self, database: Database, table: sa.Table, what: str, longest_pause: timedelta) -> None:
        self._database = database
        self._table = table
        self._what = what
        self._longest_pause = longest_pause

    def due(self, state: str, now: datetime) -> list[sa.ColumnElement[bool]]:
        """Match rows in a state that are due."""
        farthest = timestamp(now + self._longest_pause + clock.TOLERANCE)
        due_at = self._table.c.due_at
        return [self._table.c.state == state, sa.or_(due_at <= timestamp(now), due_at > farthest)]

    def take(
        self,
        clauses: Iterable[sa.ColumnElement[bool]],
        columns: Sequence[sa.Column[Any]],
        now: datetime,
        until: datetime,
        values: Mapping[str, Any],
    ) -> sa.Row[Any] | None:
        """Lease the free row that has been due longest; None when there is none.

        Parameters
        ----------
        clauses
            Conditions on the row.
        columns
            Columns to return.
        now, until
            Begin and end of the lease.
        values
            Further columns to change.

        Raises
        ------
        IndexUnavailable
        """
        number = self._table.c.id
        free = sa.select(number).where(*clauses, is_free(self._table, now))
        chosen = free.order_by(self._table.c.due_at, number).limit(1)
        with self._database.reading() as connection:
            if connection.scalar(chosen) is None:  # nothing to do: do not make writers wait
                return None
        with self._database.writing(self._what) as connection:
            self._database.dialect.lock_name(connection, f"backup-scp {self._table.name} lease")
            # The former holder, whose lease has expired, may return now: lock the row, and read it as that one left it.
            found = connection.scalar(chosen.with_for_update())
            if found is None:
                return None
            lease = {"leased_until": timestamp(until), "lease": secrets.token_hex(16)}
            update = sa.update(self._table).where(number == found).values(**lease, **values)
            return connection.execute(update.returning(*columns)).one()

    def is_ours(self, number: int, lease: str) -> tuple[sa.ColumnElement[bool], ...]:
        """Match the row while it still has this lease."""
        return self._table.c.id == number, self._table.c.lease == lease

    def change(self, number: int, lease: str, values: Mapping[str, Any]) -> bool:
        """Change a leased row; False when the lease was lost.

        Raises
        ------
        IndexUnavailable
        """
        update = sa.update(self._table).where(*self.is_ours(number, lease)).values(**values)
        with self._database.writing(self._what) as connection:
            return bool(connection.execute(update).rowcount)

    def renew(self, number: int, lease: str, until: datetime) -> bool:
        """Extend a lease; False when it was lost.

        Raises
        ------
        IndexUnavailable
        """
        return self.change(number, lease, {"leased_until": timestamp(until)})


def is_free(rows: sa.FromClause, now: datetime) -> sa.ColumnElement[bool]:
    """Match rows without a valid lease; one that was leased while a clock was ahead is not valid."""
    leased_until = rows.c.leased_until
    return sa.or_(leased_until <= timestamp(now), leased_until > timestamp(now + clock.TOLERANCE))
