"""Find the number up to which all versions are visible, since those of PostgreSQL become visible in any order."""

from __future__ import annotations

import threading

from backup_scp.index.connection.database import Database
from backup_scp.index.schema.tables import version


class SettledNumbers:
    """Watches the transactions that insert versions, and never makes one wait.

    A transaction that has drawn a number holds a lock on the table until its end.  So each number is settled that was
    drawn before we saw who held the lock, once all of these transactions have ended.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._guard = threading.Lock()
        self._settled = 0
        self._drawn = 0  # the last number drawn, before we saw ``_writers``
        self._writers: frozenset[str] = frozenset()

    def last(self) -> int:
        """Return a number: no version with it or a lower one will become visible after this.

        While others write, the first call may return less than is visible; a further call returns more.

        Raises
        ------
        IndexUnavailable
        """
        with self._guard:
            with self._database.reading() as connection:
                drawn = self._database.dialect.last_id(connection, version)
                writers = self._database.dialect.writers_of(connection, version)  # after the number: see above
            if not writers:
                self._settled = self._drawn = drawn
            elif not self._writers & writers:
                self._settled, self._drawn, self._writers = self._drawn, drawn, writers
            return min(self._settled, drawn)
