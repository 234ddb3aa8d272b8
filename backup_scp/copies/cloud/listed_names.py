"""Remember which names a store has in the folder of a day: in a file, because a day of an import has a million."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from backup_scp.copies.cloud import cloud_names
from backup_scp.copies.cloud.byte_store import ByteStore
from backup_scp.copies.cloud.spool import Spool
from backup_scp.errors import DestinationUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backup_scp.ports import StoredVersion

_MOST_FOLDERS = 8
_TABLE = "CREATE TABLE listed (name TEXT PRIMARY KEY) WITHOUT ROWID"
_PRAGMAS = ("journal_mode=OFF", "synchronous=OFF", "temp_store=MEMORY", "cache_size=-2048")


class ListedNames:
    """The names of images in a store; several threads may use it.

    Parameters
    ----------
    store, spool
        They must be open while this is used.
    """

    def __init__(self, store: ByteStore, spool: Spool) -> None:
        self._store = store
        self._spool = spool
        self._mutex = threading.Lock()
        self._stack = ExitStack()
        self._database: sqlite3.Connection | None = None
        self._folders: list[str] = []  # that were listed, the oldest first

    def of(self, held: StoredVersion) -> Sequence[str]:
        """Return the names of objects of a Data Set; one request lists its whole day, once until ``clear``.

        Raises
        ------
        DestinationUnavailable
        """
        folder = cloud_names.day_folder(held)
        with self._using() as database:
            if folder not in self._folders:
                self._list(database, folder)
            begin = f"{folder}/{cloud_names.data_set_digits(held)}"
            found = database.execute("SELECT name FROM listed WHERE name > ? AND name < ?", (f"{begin}-", f"{begin}."))
            return [name for (name,) in found]

    def add(self, held: StoredVersion, name: str) -> None:
        """Remember a name that we have stored."""
        with self._using() as database:
            if cloud_names.day_folder(held) in self._folders:
                database.execute("INSERT OR IGNORE INTO listed VALUES (?)", (name,))

    def forget(self, held: StoredVersion) -> None:
        """Ask again for the names of a day."""
        with self._using() as database:
            self._forget(database, cloud_names.day_folder(held))

    def clear(self) -> None:
        """Forget everything, and remove the file."""
        with self._mutex:
            self._stack.close()
            self._database = None
            self._folders.clear()

    def _list(self, database: sqlite3.Connection, folder: str) -> None:
        while len(self._folders) >= _MOST_FOLDERS:
            self._forget(database, self._folders[0])
        self._forget(database, folder)  # a part of it, if listing has failed
        names = (name for name in self._store.list(folder) if cloud_names.digests_of(name))
        database.execute("BEGIN")
        try:
            database.executemany("INSERT OR IGNORE INTO listed VALUES (?)", ((name,) for name in names))
        finally:
            database.execute("COMMIT")
        self._folders.append(folder)

    def _forget(self, database: sqlite3.Connection, folder: str) -> None:
        database.execute("DELETE FROM listed WHERE name > ? AND name < ?", (f"{folder}/", f"{folder}0"))
        if folder in self._folders:
            self._folders.remove(folder)

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._mutex:
            try:
                yield self._database or self._open()
            except sqlite3.Error as error:
                name = getattr(error, "sqlite_errorname", "") or type(error).__name__
                sentence = f"The list of names of a copy cannot be kept ({name}): make room"
                raise DestinationUnavailable(sentence) from None

    def _open(self) -> sqlite3.Connection:
        path = self._stack.enter_context(self._spool.file())
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._stack.callback(database.close)
        for pragma in _PRAGMAS:
            database.execute(f"PRAGMA {pragma}")
        database.execute(_TABLE)
        self._database = database
        return database
