"""Check the file of an SQLite index for damage, and rename it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from backup_scp.errors import IndexUnavailable
from backup_scp.index.connection.database import Database
from backup_scp.index.connection.sqlite_engine import sqlite_path
from backup_scp.machine import clock

READ_WHOLE_BYTES = 64_000_000
"""A file up to this size is checked page by page (within a second); of a larger one, the ends of its tables."""

_ROWS = 20
_BESIDE = ("-wal", "-shm")
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_HEADER = b"SQLite format 3\0"


def damage_of(url: str) -> str | None:
    """Check the file of an index; return its damage in a few words, None when none is found.

    Damage that this check misses is noticed when a statement finds it.  It does not check a PostgreSQL index or a
    missing file.

    Raises
    ------
    InvalidSettings
    IndexUnavailable
        The file exists and cannot be opened.
    """
    with contextlib.closing(Database(url)) as database:
        path = sqlite_path(database.url) if database.is_sqlite else None
    if path is None:
        return None
    try:
        if not path.is_file() or path.stat().st_size == 0:
            log = Path(f"{path}{_BESIDE[0]}")
            return "its file is lost, only its log is left" if log.is_file() and log.stat().st_size else None
        return _header_damage(path) or _page_damage(path)
    except OSError as error:
        raise IndexUnavailable(f"The index {path} cannot be read ({error.strerror})") from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "") or ""
        if code.startswith(_DAMAGE):
            return f"it cannot be read as a database ({code})"
        return None  # locked, or of another release: the code that uses it reports this


def damage_of_copy(path: Path) -> str | None:
    """Check every page of a copy of an index that nobody uses; return its damage in a few words, None without any.

    Raises
    ------
    OSError
    """
    if damage := _header_damage(path):
        return damage
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return f"it cannot be read as a database ({getattr(error, 'sqlite_errorname', '') or type(error).__name__})"
    return None if found == "ok" else "its pages contradict each other"


def _header_damage(path: Path) -> str | None:
    with path.open("rb") as stream:
        beginning = stream.read(100)
    if not beginning.startswith(_HEADER):
        return "it does not begin like a database"
    return None if len(beginning) == 100 else "it ends within its first page"


def _page_damage(path: Path) -> str | None:
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        if path.stat().st_size <= READ_WHOLE_BYTES:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            return None if found == "ok" else "its pages contradict each other"
        for statement in _samples(connection, tables):
            connection.execute(statement).fetchall()
    return None


def _samples(connection: sqlite3.Connection, tables: list[str]) -> Iterator[str]:
    """Yield queries for both ends of each table and database index; every insertion uses these pages."""
    for table in tables:
        for order in ("", " DESC"):
            yield f'SELECT * FROM "{table}" ORDER BY rowid{order} LIMIT {_ROWS}'  # noqa: S608 - the database's own name
        for _, index, _, origin, partial in connection.execute(f'PRAGMA index_list("{table}")').fetchall():
            columns = [name for _, _, name in connection.execute(f'PRAGMA index_info("{index}")') if name]
            if partial or not columns or origin == "pk":
                continue
            for order in ("", " DESC"):
                by = ", ".join(f'"{name}"{order}' for name in columns)
                yield f'SELECT * FROM "{table}" INDEXED BY "{index}" ORDER BY {by} LIMIT {_ROWS}'  # noqa: S608


def set_aside(url: str) -> Path:
    """Rename the file of an index and the files that belong to it; delete nothing.  Return the new name.

    Other processes that have it open notice that before they write again: see ``Database``.

    Raises
    ------
    IndexUnavailable
        The file cannot be renamed, or another process is writing to it.
    """
    with contextlib.closing(Database(url)) as database:
        path = sqlite_path(database.url)
    aside = path.with_name(f"{path.name}.damaged-{clock.now():%Y%m%dT%H%M%SZ}")
    try:
        with _no_other_writer(path):
            for end in (*_BESIDE, ""):  # the database last, so that a new one never finds the log of the old one
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{path}{end}").replace(f"{aside}{end}")
    except OSError as error:
        raise IndexUnavailable(f"The damaged index {path} cannot be renamed ({error.strerror})") from None
    return aside


@contextlib.contextmanager
def _no_other_writer(path: Path) -> Iterator[None]:
    """Hold SQLite's write lock, if the damaged file still allows it."""
    if not path.is_file():
        yield
        return
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if not (getattr(error, "sqlite_errorname", "") or "").startswith((*_DAMAGE, "SQLITE_CANTOPEN")):
                raise IndexUnavailable(f"The damaged index {path} is in use by another process") from None
        yield
