"""Copy an index while it is in use: an SQLite file as it is, or any index as an SQLite file that stands alone."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from backup_scp.errors import IndexDamaged, IndexUnavailable
from backup_scp.index.connection.database import Database
from backup_scp.index.connection.db_errors import explained
from backup_scp.index.connection.migrate import create_tables
from backup_scp.index.connection.sqlite_engine import sqlite_path
from backup_scp.index.schema.tables import METADATA, archive, commitment, commitment_asked, copy_due, rejection
from backup_scp.machine.folders import fsync, fsync_folder

_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")

# A report that is delivered by now, or proves what another disk held, must never be sent from a restored index.
_LEFT_OUT = (commitment, commitment_asked, rejection)
_AS_OF_NO_NODE = (
    *(f"DELETE FROM {table.name}" for table in _LEFT_OUT),  # noqa: S608 - our own names
    f"UPDATE {archive.name} SET trouble = '', trouble_at = '', trouble_ended_at = ''",  # noqa: S608
    f"UPDATE {copy_due.name} SET leased_until = '', lease = ''",  # noqa: S608
)


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
    with _new_file(to) as part:
        _copy(path, part)
    return to.stat().st_size


def snapshot(database: Database, to: Path) -> None:
    """See ``Index.snapshot``."""
    with _new_file(to) as part:
        if database.is_sqlite:
            _copy(sqlite_path(database.url), part)
        else:
            _convert(database, part)
        with _opened(part) as copied, copied:
            for statement in _AS_OF_NO_NODE:
                copied.execute(statement)


@contextlib.contextmanager
def _new_file(to: Path) -> Iterator[Path]:
    """Yield the name of a file to write; then check it, make it durable and rename it.  Leave nothing after an error.

    Raises
    ------
    IndexUnavailable
    """
    part = to.with_name(f"{to.name}.part")
    try:
        if to.exists():
            raise IndexUnavailable(f"{to} is there already: name a new file")
        try:
            part.unlink(missing_ok=True)
            part.touch(0o600)
            yield part
            _require_whole(part)
            _make_durable(part)
            part.rename(to)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        fsync_folder(to.parent)
    except OSError as error:
        raise IndexUnavailable(f"{to} cannot be written ({error.strerror})") from None
    except sqlite3.Error as error:
        raise IndexUnavailable(f"{to} could not be written ({_name_of(error)})") from None


def _copy(path: Path, part: Path) -> None:
    """Copy in one read transaction: it sees one state, while writers continue."""
    source = f"{path.absolute().as_uri()}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(source, uri=True, timeout=30)) as index:
            index.execute("VACUUM INTO ?", (str(part),))
    except sqlite3.Error as error:
        name = _name_of(error)
        if name.startswith(_DAMAGE):
            raise IndexDamaged(f"The index {path} is damaged ({name}): backup-scp rebuild makes it again") from None
        raise IndexUnavailable(f"The index {path} could not be copied ({name})") from None


def _convert(database: Database, part: Path) -> None:
    """Write the rows of a PostgreSQL index, all as of one moment, as an SQLite index."""
    with _opened(part) as target:
        engine = sa.create_engine("sqlite://", creator=lambda: target, poolclass=sa.pool.StaticPool)
        with explained(sa.URL.create("sqlite", database=str(part))), engine.begin() as connection:
            create_tables(connection)
        target.execute("PRAGMA cache_size=-262144")
        with database.reading(stream=True, snapshot=True) as source, target:
            for table in METADATA.sorted_tables:
                if table not in _LEFT_OUT:
                    _convert_table(source, target, table)


def _convert_table(source: sa.Connection, target: sqlite3.Connection, table: sa.Table) -> None:
    names = ", ".join(f'"{column.name}"' for column in table.c)
    marks = ", ".join("?" for _ in table.c)
    in_order = ", ".join(f'"{column.name}"' for column in table.primary_key.columns)
    rows = source.exec_driver_sql(f'SELECT {names} FROM "{table.name}" ORDER BY {in_order}')  # noqa: S608 - our own names
    insert = f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})'  # noqa: S608
    for some in rows.partitions():
        target.executemany(insert, map(tuple, some))


@contextlib.contextmanager
def _opened(part: Path) -> Iterator[sqlite3.Connection]:
    """Open a file that no process uses yet: without a journal, because one that is not finished is removed."""
    with contextlib.closing(sqlite3.connect(part)) as connection:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        yield connection


def _require_whole(part: Path) -> None:
    with contextlib.closing(sqlite3.connect(part)) as copied:
        (found,) = copied.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise IndexUnavailable("The copy is not whole; the disk may be failing")


def _make_durable(path: Path) -> None:
    with path.open("rb+") as stream:
        fsync(stream.fileno())
    path.chmod(0o600)


def _name_of(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", "") or type(error).__name__
