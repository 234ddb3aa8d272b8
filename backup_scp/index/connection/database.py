"""Connections: SQLite in WAL with synchronous=FULL, PostgreSQL with synchronous_commit on; errors in plain words."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from backup_scp.errors import IndexDamaged, IndexUnavailable, InvalidSettings
from backup_scp.index.connection.db_errors import SILENT, ServerSilent, explanation
from backup_scp.index.connection.driver_cursor import DriverCursor
from backup_scp.index.connection.sqlite_engine import (
    BEGIN,
    FROZEN,
    WAIT_S,
    is_at_its_place,
    place,
    require_at_its_place,
    sqlite_engine,
)
from backup_scp.index.schema.dialect import Dialect
from backup_scp.index.schema.rows import Row
from backup_scp.index.schema.sqlite import SQLite
from backup_scp.machine.fair_lock import FairLock

MOST_CONNECTIONS = 64
"""To a PostgreSQL server; a node that has several processes shares them out."""

ROWS_AT_ONCE = 500
"""How many rows of a long answer are in memory."""

_MOST_SQLITE_READERS = 8  # idle, of ``fetch_one``


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


class Database:
    """The connections to one index; many threads use it at the same time.

    Readers never wait for the writer, nor it for them.  SQLite has one writer at a time: the threads of this process
    queue for it here, other processes in SQLite.

    Parameters
    ----------
    url
        ``sqlite:///path`` or ``postgresql://...``.
    connections
        How many there may be to a PostgreSQL server.
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
        self._write_lock = FairLock()
        self._writer: sa.Connection | None = None
        self._readers: list[DriverCursor] = []  # idle ones of ``fetch_one``: they count among the pool's

    @contextlib.contextmanager
    def reading(self, *, stream: bool = False, snapshot: bool = False) -> Iterator[sa.Connection]:
        """Read in one transaction; ``stream`` leaves unread rows with the database.

        A statement sees one state, and with ``snapshot`` all of them see the same.
        """
        with self._noticing(), self._engine.connect() as connection:
            if snapshot and not self.is_sqlite:  # which knows nothing else
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection.execution_options(stream_results=True, yield_per=ROWS_AT_ONCE) if stream else connection

    @contextlib.contextmanager
    def writing(self, what: str = "other things", *, first: bool = False) -> Iterator[sa.Connection]:
        """Write in one transaction: durable when the block ends, undone when it raises.

        Parameters
        ----------
        what
            Is written, for those who wait too long for it.
        first
            Before what others write that can wait: an image does not wait for housekeeping.
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
        """Write in one transaction as ``writing``, with the few statements that entering a version takes."""
        with self._noticing():
            if not self.is_sqlite:
                with self._engine.begin() as connection:
                    self.dialect.be_quick(connection)
                    yield DriverCursor(connection)
                return
            with self._one_writer("images", first=True) as writer:
                direct = DriverCursor(writer)
                with direct.transaction(BEGIN):
                    require_at_its_place(writer)
                    yield direct

    def fetch_one(self, statement: sa.Executable, row: Row) -> Any:
        """Read the first row that one statement finds, outside of any transaction; None where there is none."""
        with self._noticing():
            while reader := self._idle_reader():
                try:
                    return self._look(reader, statement, row)
                except sa.exc.DBAPIError as error:
                    if not error.connection_invalidated or getattr(error.orig, "sqlstate", "") == SILENT:
                        raise  # else the server was restarted since: the next one, or a new one
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
        """Keep a connection for the next one who looks."""
        if FROZEN in reader.connection.info or len(self._readers) >= self._most_readers:
            reader.connection.close()  # frozen: the next one may write again
        else:
            self._readers.append(reader)

    def _idle_reader(self) -> DriverCursor | None:
        """Take a connection that is open; one to a file that was set aside goes."""
        with contextlib.suppress(IndexError):  # several threads take
            while True:
                reader = self._readers.pop()
                if not self.is_sqlite or is_at_its_place(reader.connection):
                    return reader
                reader.connection.invalidate()
                reader.connection.close()
        return None

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            raise self._noticed(explanation(self.url, error)) from None
        except (IndexDamaged, ServerSilent) as error:
            raise self._noticed(error) from None

    def _noticed(self, error: IndexUnavailable) -> IndexUnavailable:
        """Remember what an error says of the whole index; give what is to be raised."""
        if isinstance(error, IndexDamaged):
            if self._frozen.is_set() and place(self.url):  # another may have written to it meanwhile
                return IndexUnavailable(f"{error}; nothing can be written to it now")
            found = place(self.url)
            self._was_gone = self._was_gone or not found
            self._damage = (str(error), found)
        elif isinstance(error, ServerSilent):
            self._drop_idle()
        return error

    def _drop_idle(self) -> None:
        """Let go of what is connected to a server that does not answer: who comes next need not try it again."""
        with contextlib.suppress(IndexError):
            while True:
                reader = self._readers.pop()
                reader.connection.invalidate()
                reader.connection.close()

    @property
    def damage(self) -> str:
        """What a connection met that says that the file is damaged or gone; empty once another one has its place."""
        sentence, met = self._damage
        return sentence if met == place(self.url) else ""

    @property
    def is_replaced(self) -> bool:
        """Whether another file has the name of an SQLite index than when it was opened, or last accepted.

        One that appears after none was there is another one, even in the same place: once nobody has a deleted file
        open any more, its place (the inode) is given to the next file.
        """
        found = place(self.url) if self.is_sqlite else None
        self._accepted = self._accepted or found
        return found is not None and (self._was_gone or found != self._accepted)

    def accept(self) -> None:
        """Take the file that is there for the index."""
        self._was_gone = False
        self._accepted = place(self.url)

    @contextlib.contextmanager
    def _one_writer(self, what: str, *, first: bool) -> Iterator[sa.Connection]:
        with self._write_lock.turn(what, first=first, timeout_s=WAIT_S) as is_ours:
            if not is_ours:
                holder, held_s = self._write_lock.holder
                writes = f"now {holder} are written to it, for {held_s:.0f} s so far" if holder else "it is free again"
                raise IndexUnavailable(f"The index was busy for {WAIT_S} s; {writes}. Try again")
            if self._writer is None or self._writer.invalidated or not is_at_its_place(self._writer):
                self._drop_writer()
                self._writer = self._engine.connect().execution_options(begin=BEGIN)
            try:
                yield self._writer
            except sa.exc.OperationalError:
                self._writer.invalidate()  # after a failed fsync its descriptors would say yes
                self._drop_writer()
                raise

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def close(self) -> None:
        """Let go of every connection."""
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
