"""Connections to SQLite (WAL, synchronous=FULL) and PostgreSQL (synchronous_commit=on), with plain error messages."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import sqlalchemy as sa

from backup_scp.errors import IndexDamaged, IndexUnavailable, InvalidSettings
from backup_scp.index.connection.db_errors import SILENT, ServerSilent, explanation
from backup_scp.index.connection.driver_cursor import DriverCursor
from backup_scp.index.connection.sqlite_engine import (
    BEGIN,
    FROZEN,
    WAIT_S,
    copy_log,
    is_at_its_place,
    place,
    require_at_its_place,
    set_waiting,
    sqlite_engine,
)
from backup_scp.index.schema.dialect import Dialect
from backup_scp.index.schema.rows import Row
from backup_scp.index.schema.sqlite import SQLite
from backup_scp.machine.fair_lock import FairLock

MOST_CONNECTIONS = 64
"""Number of connections to a PostgreSQL server; several processes of a node divide it among them."""

ROWS_AT_ONCE = 500
"""How many rows of a long answer are in memory at once."""

_MOST_COMMITS_IN_LOG = 64  # about 800 pages: SQLite itself copies from 1,000 on, and images wait for that
_MOST_SQLITE_READERS = 8  # idle connections for ``fetch_one``


def index_url(url: str) -> sa.URL:
    """Read the URL of an index; ``postgresql://`` means psycopg 3.

    Raises
    ------
    InvalidSettings
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise InvalidSettings("The index URL cannot be read; write sqlite:///path or postgresql://") from None
    if parsed.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "sqlite" and parsed.database not in {None, "", ":memory:"}:
        return parsed
    raise InvalidSettings("The index URL must begin with sqlite:/// and a path, or with postgresql://")


class _Noticing:
    """Turns errors of SQLAlchemy into ours, for a ``with`` block; has no state, so one serves all threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, sa.exc.SQLAlchemyError):
            raise self._database.noticed(explanation(self._database.url, error)) from None
        if isinstance(error, IndexDamaged | ServerSilent):
            raise self._database.noticed(error) from None


class Database:
    """The connections to one index; safe to share between threads.

    Readers and the writer never wait for each other.  SQLite allows one writer at a time: threads of this process
    queue here, other processes queue in SQLite.

    Parameters
    ----------
    url
        ``sqlite:///path`` or ``postgresql://...``.
    connections
        Maximum number of connections to a PostgreSQL server.
    """

    def __init__(self, url: str, connections: int = MOST_CONNECTIONS) -> None:
        self._damage: tuple[str, tuple[int, int] | None] = ("", None)
        self._frozen = threading.Event()
        self.url = index_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._was_gone = False
        self._accepted = place(self.url) if self.is_sqlite else None
        self.dialect: Dialect
        if self.is_sqlite:
            self.dialect = SQLite()
            self._engine = sqlite_engine(self.url, self.dialect, self._frozen)
            self._most_readers = _MOST_SQLITE_READERS
        else:
            self.dialect, self._engine = _postgresql(self.url, connections)
            self._most_readers = connections // 4
        self._notices = _Noticing(self)
        self._write_lock = FairLock()
        self._writer: sa.Connection | None = None
        self._writer_cursor: DriverCursor | None = None
        self._writer_waits = True
        self.failed_writes = 0
        """How many transactions failed: perhaps for a failed fsync, after which the log may lack earlier ones."""
        self._commits_in_log = 0  # those that did not wait
        self._readers: list[DriverCursor] = []  # idle, for ``fetch_one``; the pool counts them as in use

    @property
    def engine(self) -> sa.Engine:
        """The engine, for further tables in the same database."""
        return self._engine

    @contextlib.contextmanager
    def reading(self, *, stream: bool = False, snapshot: bool = False) -> Iterator[sa.Connection]:
        """Read in one transaction; ``stream`` fetches rows only as they are read.

        Each statement sees one state; with ``snapshot`` all statements see the same state.
        """
        with self._noticing(), self._engine.connect() as connection:
            if snapshot and not self.is_sqlite:  # SQLite always reads a snapshot
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection.execution_options(stream_results=True, yield_per=ROWS_AT_ONCE) if stream else connection

    @contextlib.contextmanager
    def writing(self, what: str = "other things", *, first: bool = False) -> Iterator[sa.Connection]:
        """Write in one transaction: commit durably when the block ends, roll back when it raises.

        Parameters
        ----------
        what
            What is written, for the error of a thread that waits too long.
        first
            Overtake other writers that wait: an image must not wait for maintenance.
        """
        with self._noticing():
            if not self.is_sqlite:
                with self._engine.begin() as connection:
                    self.dialect.make_durable(connection)
                    yield connection
                return
            with self._one_writer(what, first=first) as writer, writer.begin():
                require_at_its_place(writer)
                yield writer

    @contextlib.contextmanager
    def write_fast(self) -> Iterator[DriverCursor]:
        """Write in one transaction, for the few statements that add a version; it is durable after ``flush``."""
        with self._noticing():
            if not self.is_sqlite:
                with self._engine.begin() as connection:
                    self.dialect.be_quick(connection)
                    yield DriverCursor(connection)
                return
            with self._one_writer("images", first=True, waits=False) as writer:
                direct = self._writer_cursor = self._writer_cursor or DriverCursor(writer)
                with direct.transaction(BEGIN):
                    require_at_its_place(writer)
                    yield direct
                self._commits_in_log += 1

    def tidy_log(self, *, whole: bool = False) -> None:
        """Copy a long log of an SQLite index into its database, so that no image waits for that; ``whole`` always."""
        if self.is_sqlite and (whole or self._commits_in_log >= _MOST_COMMITS_IN_LOG):
            self._commits_in_log = 0
            with self._noticing(), self._engine.connect() as connection:
                copy_log(connection, whole=whole)

    def fetch_one(self, statement: sa.Executable, row: Row) -> Any:
        """Return the first row of a statement, outside of any transaction; None when there is no row."""
        with self._noticing():
            while reader := self._idle_reader():
                try:
                    return self._look(reader, statement, row)
                except sa.exc.DBAPIError as error:
                    if not error.connection_invalidated or getattr(error.orig, "sqlstate", "") == SILENT:
                        raise  # otherwise the server was restarted: try the next connection
            return self._look(self._new_reader(), statement, row)

    def _look(self, reader: DriverCursor, statement: sa.Executable, row: Row) -> Any:
        try:
            found = reader.execute(statement, row).first()
        except BaseException:
            reader.connection.close()
            raise
        self._keep(reader)
        return found

    @contextlib.contextmanager
    def autocommit(self) -> Iterator[DriverCursor]:
        """Check out an autocommit connection; it may be stale."""
        with self._noticing():
            reader = self._idle_reader() or self._new_reader()
            try:
                yield reader
            except BaseException:
                reader.connection.close()
                raise
            self._keep(reader)

    def _new_reader(self) -> DriverCursor:
        connection = self._engine.connect()
        if not self.is_sqlite:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            self.dialect.be_quick(connection)
        return DriverCursor(connection)

    def _keep(self, reader: DriverCursor) -> None:
        """Keep a connection for the next read."""
        if FROZEN in reader.connection.info or len(self._readers) >= self._most_readers:
            reader.connection.close()  # read-only: a new connection may be able to write
        else:
            self._readers.append(reader)

    def _idle_reader(self) -> DriverCursor | None:
        """Take an idle connection; close those to a file that was renamed."""
        with contextlib.suppress(IndexError):  # other threads take connections too
            while True:
                reader = self._readers.pop()
                if not self.is_sqlite or is_at_its_place(reader.connection):
                    return reader
                reader.connection.invalidate()
                reader.connection.close()
        return None

    def _noticing(self) -> _Noticing:
        return self._notices

    def noticed(self, error: IndexUnavailable) -> IndexUnavailable:
        """Record an error that concerns the whole index; return the error to raise."""
        if isinstance(error, IndexDamaged):
            if self._frozen.is_set() and place(self.url):  # another process may have written to it
                return IndexUnavailable(f"{error}; nothing can be written to it now")
            found = place(self.url)
            self._was_gone = self._was_gone or not found
            self._damage = (str(error), found)
        elif isinstance(error, ServerSilent):
            self._drop_idle()
        return error

    def _drop_idle(self) -> None:
        """Close idle connections to a server that does not answer, so that the next thread does not try them."""
        with contextlib.suppress(IndexError):
            while True:
                reader = self._readers.pop()
                reader.connection.invalidate()
                reader.connection.close()

    @property
    def damage(self) -> str:
        """The damage that a connection found, or that the file is gone; empty when another file has replaced it."""
        sentence, met = self._damage
        return sentence if met == place(self.url) else ""

    @property
    def is_replaced(self) -> bool:
        """Whether the file of an SQLite index was replaced since it was opened or last accepted.

        A file that appears after it was missing counts as another one, even with the same inode: a file system gives
        the inode of a deleted file to the next one.
        """
        found = place(self.url) if self.is_sqlite else None
        self._accepted = self._accepted or found
        return found is not None and (self._was_gone or found != self._accepted)

    def accept(self) -> None:
        """Use the file that is there now as the index."""
        self._was_gone = False
        self._accepted = place(self.url)

    @contextlib.contextmanager
    def _one_writer(self, what: str, *, first: bool, waits: bool = True) -> Iterator[sa.Connection]:
        """Lend the one connection that writes; its commits wait for the disk, or do not."""
        with self._write_lock.turn(what, first=first, timeout_s=WAIT_S) as is_ours:
            if not is_ours:
                holder, held_s = self._write_lock.holder
                writes = f"now {holder} are written to it, for {held_s:.0f} s so far" if holder else "it is free again"
                raise IndexUnavailable(f"The index was busy for {WAIT_S} s; {writes}. Try again")
            if self._writer is None or self._writer.invalidated or not is_at_its_place(self._writer):
                self._drop_writer()
                self._writer = self._engine.connect().execution_options(begin=BEGIN)
                self._writer_waits = True
            try:
                if waits != self._writer_waits:
                    set_waiting(self._writer, waits=waits)
                    self._writer_waits = waits
                yield self._writer
            except sa.exc.OperationalError:
                self.failed_writes += 1
                # After a failed fsync, the next fsync on the same descriptors would succeed without the data.
                self._writer.invalidate()
                self._drop_writer()
                raise

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = self._writer_cursor = None

    def close(self) -> None:
        """Close all connections."""
        with self._write_lock.turn():
            self._drop_writer()
        while self._readers:
            self._readers.pop().connection.close()
        self._engine.dispose()


def _postgresql(url: sa.URL, connections: int) -> tuple[Dialect, sa.Engine]:
    try:
        from backup_scp.index.connection.postgresql_engine import engine_of
        from backup_scp.index.schema.postgresql import PostgreSQL
    except ModuleNotFoundError:
        raise InvalidSettings(
            "A PostgreSQL index needs the extra postgres: pip install 'backup-scp[postgres]'"
        ) from None
    return PostgreSQL(), engine_of(url, connections)
