"""Open archive and index as configured in the settings."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self, cast

from backup_scp.errors import Damaged, IndexUnavailable, NoArchive, NotOwner, Unavailable
from backup_scp.machine import clock
from backup_scp.machine.folders import make_folders
from backup_scp.machine.ownership import (
    Owner,
    belongs_to_another,
    chown_words,
    our_uid,
    owner_of,
    user_name,
    words_to_type,
)
from backup_scp.node.settings import SYSTEM_FILE, Settings
from backup_scp.ports import Archive, Index, Task
from backup_scp.services.audit_reporter import AuditReporter

_LEAST_CONNECTIONS = 8


def open_archive(settings: Settings) -> Archive:
    """Open the archive; its folder is created when it is missing.

    Raises
    ------
    ArchiveUnavailable
    """
    from backup_scp.archive.filesystem import FilesystemArchive

    return FilesystemArchive(settings.archive_path, settings.archive.reserve_bytes)


def open_index(settings: Settings, *, migrate: bool | None = None) -> Index:
    """Open the index.

    Parameters
    ----------
    settings
        Name the index.
    migrate
        Whether to upgrade its tables first.  By default only those of SQLite: a shared database is upgraded by
        ``db upgrade``, when its owner decides so.

    Raises
    ------
    IndexUnavailable
    """
    from backup_scp.index.sql_index import SQLIndex

    if settings.index_is_embedded if migrate is None else migrate:
        upgrade_index(settings)
    return SQLIndex(settings.index_url, _connections(settings))


def open_quiet_index(settings: Settings) -> Index:
    """Open an SQLite index that answers only while nothing is due at a copy; see ``QuietIndex``.

    Raises
    ------
    NotQuiet
    """
    from backup_scp.index.quiet_index import QuietIndex

    return cast("Index", QuietIndex(index_path(settings)))


def _connections(settings: Settings) -> int:
    """Return how many connections one process of the node may have to a PostgreSQL server."""
    from backup_scp.index.connection.database import MOST_CONNECTIONS

    return max(MOST_CONNECTIONS // settings.node.workers, _LEAST_CONNECTIONS)


def set_aside_damaged_index(settings: Settings, seen: str = "") -> Iterator[str]:
    """Rename a damaged SQLite index: the next open creates an empty one, and a rebuild fills it.

    Parameters
    ----------
    settings
        Name the index.
    seen
        The damage that was found; by default this checks the file.

    Yields
    ------
    str
        The damage, and the file's new name.

    Raises
    ------
    IndexUnavailable
    """
    from backup_scp.index.connection.sqlite_file import damage_of, set_aside

    if damage := seen or damage_of(settings.index_url):
        aside = set_aside(settings.index_url)
        yield f"Its file was damaged ({damage}) and renamed to {aside}"


def back_up_index(settings: Settings, to: Path) -> int:
    """Copy an SQLite index to a new file while it is in use; return the size of the copy, in bytes.

    Raises
    ------
    IndexUnavailable
    """
    from backup_scp.index.connection.index_copy import backup

    return backup(settings.index_url, to)


def upgrade_index(settings: Settings) -> bool:
    """Upgrade the tables of the index; True when there was something to do.

    Raises
    ------
    IndexUnavailable
    """
    from backup_scp.index.connection.migrate import upgrade

    return upgrade(settings.index_url)


def require_archive(settings: Settings) -> None:
    """Raise when there is no archive, because an empty result would be misleading: the node's archive is elsewhere.

    An index is enough: the archive's drive may be disconnected.

    Raises
    ------
    NoArchive
        The text names the folder, and how to name another.
    """
    if not settings.index_is_embedded or is_there(settings.archive_path) or is_there(index_path(settings)):
        return
    said_by = settings.home_source or "nothing names another folder"
    raise NoArchive(
        f"There is no archive in {settings.home} ({said_by}). Where does the node keep its data? Name that folder: "
        f"BACKUP_SCP_HOME=FOLDER in front of the command, or home = 'FOLDER' below [node] in {SYSTEM_FILE}"
    )


def require_owner(settings: Settings) -> None:
    """Raise when archive or index belong to another user: the node could not use files that we create there.

    Raises
    ------
    NotOwner
        The text has the command to type.
    """
    owner = foreign_owner(settings)
    if owner is not None:
        raise not_owner(owner)


def not_owner(owner: Owner) -> NotOwner:
    """Return the error that names the owner and the command to type."""
    us = user_name(our_uid() or 0)
    return NotOwner(f"{owner.path} belongs to {owner.name}, and you are {us}: type  {words_to_type(owner)}")


def foreign_owner(settings: Settings, *, of_home: bool = False) -> Owner | None:
    """Return the owner of archive and index; None when it is the user of this process.

    Parameters
    ----------
    settings
        Name archive and index.
    of_home
        When neither exists yet, return the owner of the folder that will hold them.

    Raises
    ------
    NotOwner
        They belong to two users.
    """
    from backup_scp.archive.filesystem import STAGING
    from backup_scp.archive.marker import MARKER

    made_by_the_node = (settings.archive_path / name for name in (MARKER, STAGING))  # the first files of an archive
    archive = next(filter(None, map(owner_of, made_by_the_node)), None)
    index = owner_of(index_path(settings)) if settings.index_is_embedded else None
    if index is not None and our_uid() and os.access(index.path, os.R_OK | os.W_OK):
        index = None  # the index is shared on purpose
    foreign = [owner for owner in (archive, index) if owner and belongs_to_another(owner, MARKER)]
    if archive and index and foreign and (len(foreign) == 1 or archive.uid != index.uid):
        # chown -h, without following links: root must change nothing outside, whoever made a link.
        chown = chown_words(archive.name, str(index.path), options="-h")
        raise NotOwner(f"{archive.path} belongs to {archive.name}, and {index.path} to {index.name}: type  {chown}*")
    if archive or index or not of_home:
        return foreign[0] if foreign else None
    home = owner_of(settings.home)
    return home if home and belongs_to_another(home, MARKER) else None


def files_in_journal(path: Path) -> list[bytes] | None:
    """Read the DICOM files in the intake journal of a node that died; None for any other file.

    Raises
    ------
    OSError
    """
    from backup_scp.archive.intake_journal import is_journal
    from backup_scp.archive.leftovers import whole_files

    return [content for _, content in whole_files(path)] if is_journal(path) else None


def index_path(settings: Settings) -> Path:
    """Return the file of an SQLite index."""
    return Path(settings.index_url.removeprefix("sqlite:///").partition("?")[0])


def is_there(path: Path) -> bool:
    """Tell whether a file or folder exists; True also when permission to look is denied."""
    try:
        path.stat()
    except PermissionError:
        return True  # it may exist
    except OSError:
        return False
    return True


def pending_upgrade(settings: Settings) -> str | None:
    """Return one sentence on why this program cannot use the index without an upgrade; None when it can.

    Raises
    ------
    IndexUnavailable
    """
    from backup_scp.index.connection.migrate import pending

    return pending(settings.index_url)


class OpenStores:
    """Archive and index, open during the ``with`` block.

    Attributes
    ----------
    archive, index
        The open archive and index.
    settings
        The settings that name them.
    reporter
        Tells the audit trail what comes and goes; nothing before ``report_to``.

    Parameters
    ----------
    settings
        Name archive and index.
    any_archive
        Read the archive even when the index belongs to another one.
    create
        Create the archive when there is none.
    quiet
        Open the index by ``open_quiet_index``; ``NotQuiet`` may then come of each use.
    """

    archive: Archive
    index: Index

    def __init__(
        self, settings: Settings, *, any_archive: bool = False, create: bool = False, quiet: bool = False
    ) -> None:
        self.settings = settings
        self._any_archive = any_archive
        self._create = create
        self._quiet = quiet
        self._open = ExitStack()
        self.reporter = AuditReporter()

    def report_to(self, reporter: AuditReporter) -> None:
        """Let the audit trail know what comes and goes, and what damage is found."""
        self.reporter = reporter
        self.index.on_damage = reporter.damage_found

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._enter(opened)
            self._open = opened.pop_all()
        return self

    def _enter(self, opened: ExitStack) -> None:
        require_owner(self.settings)
        if not self._create:
            require_archive(self.settings)
        with contextlib.suppress(OSError):  # the code that needs the folder reports this
            make_folders(self.settings.home, 0o700)  # private: the index names patients
        self.archive = open_archive(self.settings)
        opened.callback(self.archive.close)
        was_upgraded = not self._quiet and self.settings.index_is_embedded and upgrade_index(self.settings)
        self.index = open_quiet_index(self.settings) if self._quiet else open_index(self.settings, migrate=False)
        opened.callback(self.index.close)
        if not self._any_archive:
            self._expect_the_archive()
        if was_upgraded:
            self.expect_rebuild("It was empty, and the archive was not")

    def _expect_the_archive(self) -> None:
        with contextlib.suppress(IndexUnavailable):  # the code that needs the index reports this
            identity = self.index.archive_identity()
            if identity is not None:
                self.archive.expect(identity)

    def expect_rebuild(self, reason: str) -> bool:
        """Request a rebuild when the index is empty and the archive is not; tell whether it was requested."""
        if not self.index.is_empty() or not self._holds_something():
            return False
        from backup_scp.services import rebuild

        self.index.record_task(Task(rebuild.NAME, clock.now(), note=reason))
        return True

    def _holds_something(self) -> bool:
        try:
            return next(self.archive.locations(), None) is not None
        except Unavailable:
            return False
        except Damaged:  # no folder can be read, so there are some
            return True

    def __exit__(self, *exc: object) -> None:
        self._open.close()
