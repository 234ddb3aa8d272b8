"""Upgrade the tables of an index to this release; alembic is loaded only when there is something to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from backup_scp.errors import IndexUnavailable
from backup_scp.index.connection.database import Database
from backup_scp.index.connection.db_errors import NOT_READY
from backup_scp.index.connection.sqlite_engine import sqlite_path
from backup_scp.index.schema.head import HEAD
from backup_scp.index.schema.stored_text import lock_number
from backup_scp.index.schema.tables import METADATA
from backup_scp.machine.folders import fsync_folder, make_folders
from backup_scp.machine.program_folder import program_folder

if TYPE_CHECKING:
    from alembic.config import Config

_REVISION = sa.Table(  # alembic creates it
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
_NEWER = (
    "The index was made by a newer version of backup-scp ({revision}): install that version, or let this one make a "
    "new index with `backup-scp rebuild` after the old one was moved away"
)


def upgrade(url: str) -> bool:
    """Run the pending migrations; True when there were any.

    On return the tables are those of this release.  It creates a missing SQLite file and its folder.

    Raises
    ------
    InvalidSettings
        The URL cannot be used.
    IndexUnavailable
        The database does not answer, or is newer than this program.
    """
    with _made(url) as database:
        if _revision(database) == HEAD:
            return False
        if not (database.is_sqlite and _was_made_at_once(database)):
            _run(database, HEAD)
        return True


def pending(url: str) -> str | None:
    """Return one sentence on why this program cannot use the index without an upgrade; None when it can.

    Raises
    ------
    InvalidSettings, IndexUnavailable
    """
    with _made(url) as database:
        revision = _revision(database)
    if revision == HEAD:
        return None
    if revision is None:
        return f"The index has no tables yet; {NOT_READY}"
    return _newer_than_us(revision) or f"The index is older than this version of backup-scp; {NOT_READY}"


def is_current(url: str) -> bool:
    """Tell whether an SQLite file has the tables of this release; it creates nothing.

    Raises
    ------
    IndexUnavailable
    """
    with contextlib.closing(Database(url)) as database:
        return _revision(database) == HEAD


def newer_revision(url: str) -> str:
    """Return the migration of an index that a newer version has made; empty when this one knows it.

    Raises
    ------
    IndexUnavailable
    """
    with contextlib.closing(Database(url)) as database:
        revision = _revision(database)
    return revision if revision and _newer_than_us(revision) else ""


def move_to(url: str, revision: str) -> None:
    """Run migrations up or down to a revision; ``base`` is the empty database."""
    with _made(url) as database:
        _run(database, revision)


@contextlib.contextmanager
def _made(url: str) -> Iterator[Database]:
    with contextlib.closing(Database(url)) as database:
        if database.is_sqlite:
            _make_file(sqlite_path(database.url), is_uri=bool(database.url.query))
        yield database


def _make_file(path: Path, *, is_uri: bool) -> None:
    """Create the file of an SQLite index.

    Only this function does: elsewhere a lost index must be noticed, not replaced by an empty file.
    """
    try:
        make_folders(path.parent)
        if not is_uri and not path.exists():
            path.touch(0o600)
            fsync_folder(path.parent)  # SQLite does this only for files that it creates itself
    except OSError as error:
        raise IndexUnavailable(f"The index {path} cannot be made: {error.strerror}") from None


def _revision(database: Database) -> str | None:
    """Return the migration that the database is at."""
    with database.reading() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return revision


def _was_made_at_once(database: Database) -> bool:
    """Create the current tables in an empty SQLite file, so that a first start runs no migrations."""
    with database.writing("new tables") as connection:
        if sa.inspect(connection).get_table_names():
            return False
        create_tables(connection)
    return True


def create_tables(connection: sa.Connection) -> None:
    """Create the tables of this release in an empty database."""
    METADATA.create_all(connection)
    connection.execute(sa.schema.CreateTable(_REVISION))
    connection.execute(_REVISION.insert(), {"version_num": HEAD})


def _newer_than_us(revision: str) -> str | None:
    """Return a sentence when the revision is none of our migrations, so that the index is newer."""
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory(str(_folder())).walk_revisions()}
    return None if revision in known else _NEWER.format(revision=revision)


def _run(database: Database, revision: str) -> None:
    from alembic import command

    with database.writing("new tables") as connection, _alone(database, connection):
        if (current := _current(connection)) and (sentence := _newer_than_us(current)):
            raise IndexUnavailable(sentence)
        config = _config(connection)
        going_down = revision == "base" or (current is not None and revision < current)
        (command.downgrade if going_down else command.upgrade)(config, revision)


def _current(connection: sa.Connection) -> str | None:
    from alembic.runtime.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


@contextlib.contextmanager
def _alone(database: Database, connection: sa.Connection) -> Iterator[None]:
    """Hold a lock, so that two nodes that start together migrate one after the other; SQLite has one writer anyway."""
    if not database.is_sqlite:
        encoding = connection.scalar(sa.text("SHOW server_encoding"))
        if encoding != "UTF8":
            raise IndexUnavailable(f"The database's encoding is {encoding}; create it with ENCODING 'UTF8'")
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:n)"), {"n": lock_number("backup-scp migration")})
    yield


def _config(connection: sa.Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _folder() -> Path:
    """Return the folder of migrations."""
    return program_folder("migrations")
