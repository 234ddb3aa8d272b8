"""Connections to an SQLite file in WAL mode with synchronous=FULL; always to the file that has the name now."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from backup_scp.errors import IndexDamaged, IndexUnavailable
from backup_scp.index.connection.driver_cursor import DriverCursor
from backup_scp.index.schema.sqlite import SQLite
from backup_scp.index.schema.trigrams import NAME_TABLE

WAIT_S = 30
"""How long a writer waits for another one, in seconds."""

FROZEN = "frozen"
"""Key in a connection's ``info`` that marks it as read-only."""

BEGIN = "BEGIN IMMEDIATE"

_PAUSE_S = 0.01
_COPY_AFTER_PAGES = 1000  # of the log
_MOMENT_MS = 1000

# The cache holds the inner b-tree pages of a million studies; a connection only uses memory for pages it has read.
_PRAGMAS = (
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    f"PRAGMA busy_timeout={WAIT_S * 1000}",
    "PRAGMA cache_size=-32768",
)
_FILE = "file"
_FILES_OF_ONE = 3
"""Number of files: the database, its write-ahead log, and the index of the log."""

_NO_SHARED_MEMORY = "SQLITE_IOERR_SHM"
_NO_ROOM = ("SQLITE_FULL", "SQLITE_IOERR_WRITE")
_HAS_TRIGRAMS = f"SELECT 1 FROM sqlite_master WHERE name = '{NAME_TABLE}'"  # noqa: S608


def _connected(
    url: sa.URL, frozen: threading.Event, info: dict[str, Any], *arguments: Any, **options: Any
) -> sqlite3.Connection:
    """Connect; read-only when the file cannot be written and no other process has it open."""
    path = sqlite_path(url)
    only_to_read: sqlite3.Connection
    if "immutable" in url.query:
        info[FROZEN] = True
        only_to_read = sqlite3.connect(*arguments, **options)
        return only_to_read
    try:
        connection = _connected_to_write(*arguments, **options)
    except sqlite3.OperationalError as error:
        _require_descriptors(path, error)
        if not _is_whole_and_still(path, error.sqlite_errorname):
            raise
    else:
        frozen.clear()
        return connection
    frozen.set()
    info[FROZEN] = True
    only_to_read = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, **options)
    return only_to_read


def _connected_to_write(*arguments: Any, **options: Any) -> sqlite3.Connection:
    connection: sqlite3.Connection = sqlite3.connect(*arguments, **options)
    try:
        _use_wal(connection)
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _require_descriptors(path: Path, error: sqlite3.OperationalError) -> None:
    """Raise a clear error when the process has no descriptor left: SQLite only says that it cannot open the file.

    Raises
    ------
    IndexUnavailable
    """
    if error.sqlite_errorname.startswith("SQLITE_CANTOPEN"):
        try:
            with contextlib.ExitStack() as stack:
                for _ in range(_FILES_OF_ONE):
                    stack.enter_context(open(os.devnull, "rb"))  # noqa: PTH123 - only a descriptor is needed
        except OSError as no_more:
            if no_more.errno in {errno.EMFILE, errno.ENFILE}:
                raise IndexUnavailable(
                    f"The index {path} cannot be opened: too many files are open; raise the limit (ulimit -n, "
                    "LimitNOFILE of the service)"
                ) from None


def _is_whole_and_still(path: Path, error: str) -> bool:
    """Tell whether the file is complete without its log, and no process can change it or seems to have it open.

    A reader of an immutable file takes no locks: if the file were written meanwhile, it would read a state that never
    existed.
    """
    if not path.is_file() or _size(path, "-wal"):
        return False
    # A process that has the file open would have created its shared memory.
    if _is_on_read_only_disk(path) or error.startswith(_NO_SHARED_MEMORY):
        return True
    return error.startswith(_NO_ROOM) and not _size(path, "-shm")


def _size(path: Path, suffix: str) -> int:
    try:
        return path.with_name(f"{path.name}{suffix}").stat().st_size
    except OSError:
        return 0


def _is_on_read_only_disk(path: Path) -> bool:
    if sys.platform == "win32":
        return False
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL mode; retry while another process does the same, for which SQLite itself does not wait."""
    until = time.monotonic() + WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > until:
                raise
            time.sleep(_PAUSE_S)
        else:
            return


def sqlite_engine(url: sa.URL, dialect: SQLite, frozen: threading.Event) -> sa.Engine:
    """Create the engine of an index; ``frozen`` is set while the file can only be read."""
    # Last in, first out: the next user gets the connection whose cache was filled last.
    engine = sa.create_engine(url, hide_parameters=True, pool_size=16, max_overflow=-1, pool_use_lifo=True)

    @sa.event.listens_for(engine, "do_connect")
    def connect(_dialect: object, record: Any, arguments: Any, options: Any) -> sqlite3.Connection:
        _identity(url)  # raises when there is no file: SQLite would create an empty one
        return _connected(url, frozen, record.info, *arguments, **options)

    @sa.event.listens_for(engine, "checkin")  # codespell:ignore checkin
    def put_back(_connection: object, record: Any) -> None:
        if FROZEN in record.info:
            record.invalidate(soft=True)  # a new connection may be able to write

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        record.info[_FILE] = _identity(url)
        connection.isolation_level = None  # we begin transactions ourselves, see ``begin``
        with contextlib.closing(connection.cursor()) as cursor:
            for pragma in _PRAGMAS:
                cursor.execute(pragma)
            (mode,) = cursor.execute("PRAGMA journal_mode=WAL").fetchone()
            dialect.has_trigrams = cursor.execute(_HAS_TRIGRAMS).fetchone() is not None
        if mode != "wal" and FROZEN not in record.info:
            raise IndexUnavailable(
                f"The index {url.database} cannot be in WAL mode; put it on a local disk, not a share"
            )

    @sa.event.listens_for(engine, "checkout")
    def check(_connection: object, record: Any, _proxy: object) -> None:
        if record.info[_FILE] != _identity(url):
            raise sa.exc.DisconnectionError  # the pool then connects again, to the file that is there now

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine


def set_waiting(writer: sa.Connection, *, waits: bool) -> None:
    """Let each commit wait until its rows are on the disk, or not: then the next one that does waits for them too.

    One that does not wait does not copy the log into the database either: ``copy_log`` does.
    """
    cursor = DriverCursor(writer)
    cursor.control(f"PRAGMA synchronous={'FULL' if waits else 'NORMAL'}")
    cursor.ask(f"PRAGMA wal_autocheckpoint={_COPY_AFTER_PAGES if waits else 0}")


def copy_log(connection: sa.Connection, *, whole: bool = False) -> None:
    """Copy what is in the log into the database, durably, while others write.

    Parameters
    ----------
    connection
        Any but the one that writes.
    whole
        Wait a moment for others, copy all of it, and begin a new log.

    Raises
    ------
    IndexUnavailable
        Somebody reads in the log, so that not all of it could be copied.
    """
    cursor = DriverCursor(connection)  # no transaction begins
    cursor.ask(f"PRAGMA busy_timeout={_MOMENT_MS}")  # images wait meanwhile
    try:
        is_busy, _, _ = cursor.ask(f"PRAGMA wal_checkpoint({'TRUNCATE' if whole else 'PASSIVE'})")
    finally:
        cursor.ask(f"PRAGMA busy_timeout={WAIT_S * 1000}")
    if whole and is_busy:
        raise IndexUnavailable("The log of the index cannot be copied, because it is read; it is tried again")


def _identity(url: sa.URL) -> tuple[int, int] | None:
    """Return the identity of the file with this name: a damaged index may be renamed while others have it open.

    Raises
    ------
    IndexDamaged
        The file is gone: bytes written to an open file without a name would be lost.
    """
    found = place(url)
    if found is None and not url.query:  # otherwise the name is a URI
        raise IndexDamaged(f"The index {url.database} is gone; run `backup-scp rebuild`")
    return found


def place(url: sa.URL) -> tuple[int, int] | None:
    """Return the identity of the file with the index's name; None when there is none."""
    try:
        found = os.stat(url.database or "")  # noqa: PTH116 - faster, and needed at each transaction
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_at_its_place(connection: sa.Connection) -> bool:
    """Tell whether a connection's file still has the name of the index.

    Raises
    ------
    IndexDamaged
        There is no file with that name.
    """
    return bool(connection.info.get(_FILE) == _identity(connection.engine.url))


def require_at_its_place(writer: sa.Connection) -> None:
    """Raise when the file has lost its name; call it in a transaction, since nobody renames the file during one."""
    if not is_at_its_place(writer):
        raise IndexUnavailable("The index was replaced a moment ago; try again")


def sqlite_path(url: sa.URL) -> Path:
    """Return the file of an SQLite index."""
    return Path(url.database or "")
