"""Check the file of an SQLite index for damage, rename it, and copy it while it is in use."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from backup_scp.errors import IndexDamaged, IndexUnavailable
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


def backup(url: str, to: Path) -> int:
    """Copy an index to a new file while it is in use; return the size in bytes.

    The copy has the state of one moment; it is complete and durable when this returns.

    Raises
    ------
    IndexUnavailable
        The index is no SQLite index, the target exists already, or one of the files cannot be used.
    """
    with contextlib.closing(Database(url)) as database:
        if not database.is_sqlite:
            raise IndexUnavailable(f"A PostgreSQL index is copied by its own tool: pg_dump -Fc -f {to} DATABASE")
        path = sqlite_path(database.url)
    part = to.with_name(f"{to.name}.part")
    try:
        if to.exists():
            raise IndexUnavailable(f"{to} is there already: name a new file")
        part.unlink(missing_ok=True)
        part.touch(0o600)
        _copy(path, part)
        _fsync(part)
        part.rename(to)
        return to.stat().st_size
    except OSError as error:
        raise IndexUnavailable(f"{to} cannot be written ({error.strerror})") from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "") or type(error).__name__
        if code.startswith(_DAMAGE):
            raise IndexDamaged(f"The index {path} is damaged ({code}): backup-scp rebuild makes it again") from None
        raise IndexUnavailable(f"The index {path} could not be copied ({code})") from None


def _copy(path: Path, part: Path) -> None:
    """Copy in one read transaction: it sees one state, while writers continue."""
    source = f"{path.absolute().as_uri()}?mode=rw"
    with contextlib.closing(sqlite3.connect(source, uri=True, timeout=30)) as index:
        index.execute("VACUUM INTO ?", (str(part),))
    with contextlib.closing(sqlite3.connect(part)) as copied:
        (found,) = copied.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise IndexUnavailable("The copy is not whole; the disk may be failing")


def _fsync(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
    path.chmod(0o600)
