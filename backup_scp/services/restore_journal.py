"""Store what a remote AE confirmed in restores, so that the next restore sends only the rest (docs/adr/0033)."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Self

from backup_scp.machine import clock
from backup_scp.ports import StoredVersion

log = logging.getLogger(__name__)

COUNTS_FOR = timedelta(days=30)
"""How long a confirmation is valid: later the AE's disk may be another one, and to send again loses nothing."""

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS confirmed (
    sha256 BLOB NOT NULL,
    location TEXT NOT NULL,
    at REAL NOT NULL,
    implementation TEXT NOT NULL,
    PRIMARY KEY (sha256, location)
) WITHOUT ROWID;
"""
_HAS_OLD_LINES = 1  # PRAGMA user_version: the text file of earlier releases has been read


class Dropped(NamedTuple):
    """How many confirmations were dropped: expired ones, and those of another implementation."""

    old: int
    foreign: int


class RestoreJournal:
    """The confirmations of one remote AE: SHA-256, location, time, and the AE's implementation.

    They are in a file, since there may be millions.  When the journal cannot be read or written, images are sent twice,
    but none is left out.  A context manager.

    Parameters
    ----------
    path
        Its file.  The file of earlier releases, which ends in ``.txt``, is read into it once.

    Attributes
    ----------
    dropped
        What ``drop`` removed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._is_useless = False
        self.dropped = Dropped(0, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __contains__(self, held: StoredVersion) -> bool:
        return self.confirmed_at(held) is not None

    def confirmed_at(self, held: StoredVersion) -> datetime | None:
        """Tell when an instance was confirmed; None if it was not."""
        with self._using() as connection:
            if connection is not None:
                found = connection.execute(
                    "SELECT at FROM confirmed WHERE sha256 = ? AND location = ?", _key(held)
                ).fetchone()
                return None if found is None else datetime.fromtimestamp(found[0], UTC)
        return None

    def confirm(self, held: StoredVersion, implementation: str = "") -> None:
        """Note an instance as confirmed now."""
        with self._using() as connection:
            if connection is not None:
                row = (*_key(held), clock.now().timestamp(), implementation)
                connection.execute("INSERT OR REPLACE INTO confirmed VALUES (?, ?, ?, ?)", row)

    def is_empty(self) -> bool:
        """Tell whether nothing was confirmed."""
        with self._using() as connection:
            return connection is None or connection.execute("SELECT 1 FROM confirmed LIMIT 1").fetchone() is None
        return True

    def drop(self, implementation: str = "") -> None:
        """Remove expired confirmations, those of a wrong clock, and those of another implementation."""
        oldest, latest = (clock.now() - COUNTS_FOR).timestamp(), clock.horizon().timestamp()
        with self._using() as connection:
            if connection is not None:
                old = connection.execute(
                    "DELETE FROM confirmed WHERE at NOT BETWEEN ? AND ?", (oldest, latest)
                ).rowcount
                foreign = connection.execute(
                    "DELETE FROM confirmed WHERE implementation NOT IN ('', ?) AND ? <> ''", (implementation,) * 2
                ).rowcount
                self.dropped = Dropped(old, foreign)

    def forget(self, instances: Iterable[StoredVersion]) -> None:
        """Remove the confirmations of instances that the remote AE does not have."""
        with self._using() as connection:
            if connection is not None:
                connection.executemany("DELETE FROM confirmed WHERE sha256 = ? AND location = ?", map(_key, instances))

    def start_over(self) -> None:
        """Remove all confirmations."""
        with self._using() as connection:
            if connection is not None:
                connection.execute("DELETE FROM confirmed")

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection | None]:
        """Yield the open database, None when it cannot be used; log the reason once."""
        try:
            connection = self._opened()
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
            connection = None
        try:
            yield connection
        except sqlite3.Error as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        log.warning("%s cannot be used (%s): the images that it lists will be sent again", self._path, error)
        self.close()
        self._is_useless = True

    def _opened(self) -> sqlite3.Connection | None:
        if self._connection is None and not self._is_useless:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._connection = _open(self._path)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                aside = self._path.with_suffix(".damaged")
                log.warning("%s is damaged (%s), and now called %s: the images that it listed will be sent again",
                            self._path, error, aside.name)  # fmt: skip
                self._path.replace(aside)
                self._connection = _open(self._path)
            self._read_old_lines(self._connection)
        return self._connection

    def _read_old_lines(self, connection: sqlite3.Connection) -> None:
        """Copy the text file of earlier releases into the journal; ignore a line that a crash cut off."""
        old = self._path.with_suffix(".txt")
        if connection.execute("PRAGMA user_version").fetchone()[0] == _HAS_OLD_LINES:
            return
        with contextlib.suppress(FileNotFoundError), old.open(encoding="utf-8", errors="replace") as lines:
            at = old.stat().st_mtime
            rows = (_old_row(line, at) for line in lines if line.endswith("\n"))
            connection.execute("BEGIN")
            connection.executemany("INSERT OR IGNORE INTO confirmed VALUES (?, ?, ?, '')", filter(None, rows))
            connection.execute("COMMIT")
        connection.execute(f"PRAGMA user_version = {_HAS_OLD_LINES}")


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    try:
        connection.executescript(_SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _key(held: StoredVersion) -> tuple[bytes, str]:
    return bytes.fromhex(held.sha256), held.location


def _old_row(line: str, at: float) -> tuple[bytes, str, float] | None:
    digest, _, location = line.rstrip("\n").partition("  ")
    try:
        return bytes.fromhex(digest), location, at
    except ValueError:
        return None
