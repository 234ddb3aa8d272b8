"""Connections to the database of users, its migrations, and its errors in plain words."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from backup_scp.accounts.accounts_tables import HEAD, VERSION_TABLE
from backup_scp.errors import AccountsUnavailable
from backup_scp.machine.folders import fsync_folder, make_folders
from backup_scp.machine.program_folder import program_folder

MIGRATIONS = "migrations"
_BEGIN = "begin"
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000")
_LOCK = 0x6261636B7573  # any number; two processes that migrate a PostgreSQL database take turns


def sqlite_engine(path: Path) -> sa.Engine:
    """Return an engine for an SQLite file: a commit is durable when it returns."""
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), hide_parameters=True)

    @sa.event.listens_for(engine, "do_connect")
    def make(*_: object) -> None:
        make_folders(path.parent)
        if not path.exists():
            path.touch(0o600)
            fsync_folder(path.parent)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy begins
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))

    return engine


class AccountsDatabase:
    """The connections; safe to share between threads.

    The tables are made or upgraded at the first use, so that a damaged file stops nothing but logins.

    Parameters
    ----------
    engine
        Connects.
    upgrades
        Whether to upgrade the tables: a shared database is upgraded by ``db upgrade``.
    """

    def __init__(self, engine: sa.Engine, *, upgrades: bool) -> None:
        self._engine = engine
        self._upgrades = upgrades
        self._is_ready = False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Read in one transaction."""
        with self._explained():
            self._require_ready()
            with self._engine.connect() as connection:
                yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Write in one transaction: durable when the block ends, rolled back when it raises."""
        with self._explained():
            self._require_ready()
            with self._to_write() as connection, connection.begin():
                yield connection

    @contextlib.contextmanager
    def noting(self) -> Iterator[sa.Connection]:
        """Write in one transaction that waits for no disk: it outlives this process, a power cut may lose it."""
        with self._explained():
            self._require_ready()
            with self._to_write() as connection:
                if connection.dialect.name == "postgresql":
                    with connection.begin():
                        connection.exec_driver_sql("SET LOCAL synchronous_commit TO OFF")
                        yield connection
                    return
                with _unflushed(connection), connection.begin():
                    yield connection

    @contextlib.contextmanager
    def _to_write(self) -> Iterator[sa.Connection]:
        with self._engine.connect().execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}) as connection:
            yield connection

    def _require_ready(self) -> None:
        with self._lock:
            if self._is_ready:
                return
            if self._revision() != HEAD:
                if not self._upgrades:
                    raise AccountsUnavailable("The database has no tables of users yet: run `backup-scp db upgrade`")
                self._upgrade()
            self._is_ready = True

    def _revision(self) -> str | None:
        with self._engine.connect() as connection:
            if not sa.inspect(connection).has_table(VERSION_TABLE):
                return None
            found: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608
            return found

    def upgrade(self) -> bool:
        """Bring the tables up to date; True when there was something to do."""
        with self._explained():
            if self._revision() == HEAD:
                return False
            self._upgrade()
            return True

    def _upgrade(self) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.util.exc import CommandError

        config = Config()
        config.set_main_option("script_location", str(program_folder(MIGRATIONS) / "accounts").replace("%", "%%"))
        with self._to_write() as connection, connection.begin():
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:n)"), {"n": _LOCK})
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, HEAD)
            except CommandError:
                raise AccountsUnavailable(
                    "The database of users was made by a newer version of backup-scp: install that version"
                ) from None

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise our error for those of a driver: their text has values."""
        try:
            yield
        except SQLAlchemyError as error:
            raise AccountsUnavailable(_sentence(error)) from None
        except OSError as error:
            raise AccountsUnavailable(f"The database of users cannot be made ({error.strerror})") from None

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


@contextlib.contextmanager
def _unflushed(connection: sa.Connection) -> Iterator[None]:
    """Let SQLite not wait for the disk at a commit; the file stays whole (synchronous = NORMAL with WAL)."""
    driver = connection.connection.driver_connection
    if driver is None:
        yield
        return
    driver.execute("PRAGMA synchronous=NORMAL")
    try:
        yield
    finally:
        driver.execute("PRAGMA synchronous=FULL")


def _sentence(error: SQLAlchemyError) -> str:
    origin = getattr(error, "orig", None) if isinstance(error, DBAPIError) else None
    code = getattr(origin, "sqlite_errorname", "") or getattr(origin, "sqlstate", "") or type(origin or error).__name__
    what = "The database of users cannot be used, so nobody can log in"
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return f"{what}: its file is damaged ({code}). docs/users.md says what to do"
    return f"{what} ({code}); look at its disk or server, and try again"
