"""Manage the staging folders: each process has its own, locked while the process lives."""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from backup_scp.archive.durable_folders import DurableFolders
from backup_scp.archive.intake_journal import JOURNAL_BYTES, IntakeJournal, is_journal
from backup_scp.archive.staging import LOCK, FileInStaging
from backup_scp.archive.volume import Volume
from backup_scp.errors import ArchiveFull, ArchiveUnavailable
from backup_scp.machine.folders import FsyncFailed, fsync_folder
from backup_scp.machine.process_lock import Lock, is_locked
from backup_scp.ports import Heading

_NAMES_AT_ONCE = 64
_SWEPT_AT_ONCE = 64
_ROOMY_BYTES = 1 << 30
_MANY_TIMES = 10  # the journal must not be what fills a disk
_MOMENT_S = 0.01


class _Own(NamedTuple):
    """What belongs to this process."""

    pid: int
    folder: Path
    lock: Lock
    journal: IntakeJournal


class Staging:
    """The folder with a staging folder for each process; safe to share between threads, and usable after a fork.

    Parameters
    ----------
    folder
        Its path, on the archive's own volume.
    folders
        Creates missing folders.
    volume
        The volume that it is on.
    """

    def __init__(self, folder: Path, folders: DurableFolders, volume: Volume) -> None:
        self._folder = folder
        self._folders = folders
        self._volume = volume
        self._numbers = itertools.count()
        self._mutex = threading.Lock()
        self._own: _Own | None = None
        self._has_lost_one = False
        self._names: deque[str] = deque()  # of empty files
        self._named_in = ""  # the folder of these
        self._newest_name = -1  # numbers of names
        self._newest_durable: dict[Path, int] = {}  # in each folder
        self._newest_refused = -1
        self._notes: deque[Path] = deque()

    @property
    def has_notes(self) -> bool:
        """Whether this process discarded files after they were visible, or lost its folder, so that notes remain."""
        return bool(self._notes) or self._has_lost_one

    def begin(self, heading: Heading) -> FileInStaging:
        """Create a staged file in this process's folder."""
        self._volume.require_room()
        own = self._own_folder()
        self._volume.require_healthy(own.folder)
        name = self._empty_file(own.folder)
        return FileInStaging(name, heading, own.lock, self._volume, own.journal, self)

    def own_folder(self) -> tuple[Path, Lock]:
        """Return this process's folder, which may be written to now, and the lock that keeps others away from it.

        Raises
        ------
        ArchiveFull, ArchiveUnavailable
        """
        self._volume.require_room()
        own = self._own_folder()
        self._volume.require_healthy(own.folder)
        return own.folder, own.lock

    def keep_note(self, note: Path) -> None:
        """Keep the note of a file that was discarded after it was made visible."""
        self._notes.append(note)

    def make_durable(self, name: Path) -> None:
        """Make a staged name durable, with all others that were created at once: most find it done.

        Raises
        ------
        FsyncFailed
        """
        with self._mutex:
            number, newest = _number(name), self._newest_name
            if number <= self._newest_durable.get(name.parent, -1):
                return
            if number <= self._newest_refused:  # another fsync would succeed without it
                raise FsyncFailed(errno.EIO, os.strerror(errno.EIO))
        try:
            fsync_folder(name.parent)
        except FsyncFailed:
            with self._mutex:
                self._newest_refused = newest
                self._names.clear()
            raise
        with self._mutex:
            self._newest_durable[name.parent] = max(newest, self._newest_durable.get(name.parent, -1))

    def prepare_journal(self) -> None:
        """Make this process's journal, if there is none and if there is room.

        Raises
        ------
        FsyncFailed
        """
        own = self._own
        if own is not None and own.pid == os.getpid() and own.journal.must_be_prepared:
            try:
                self._volume.require_room(_MANY_TIMES * JOURNAL_BYTES)
                is_roomy = self._volume.free_bytes() > _ROOMY_BYTES
                own.journal.prepare(own.folder, may_be_long=is_roomy)
            except FsyncFailed:
                raise
            except (ArchiveFull, OSError):
                return  # each file is flushed for itself

    def close(self) -> None:
        """Remove what this process has made for images to come; leave what is still needed."""
        with self._mutex:
            own, self._own = self._own, None
            if own is None or own.pid != os.getpid():
                return
            with suppress(OSError):  # the next ``sweep`` removes it
                own.journal.remove()
                while self._names:
                    Path(self._names.pop()).unlink(missing_ok=True)
            _remove(own.folder, own.lock)

    def _empty_file(self, folder: Path) -> str:
        """Take an empty file; many are created at once, so that few wait until their names are durable."""
        with self._mutex:
            if not self._names or self._named_in != str(folder):
                self._names, self._named_in = self._create_names(str(folder)), str(folder)
                self._newest_name = _number(Path(self._names[-1]))
            return self._names.popleft()

    def _create_names(self, folder: str) -> deque[str]:
        """Create empty files; only one on a volume that has hardly room for more files."""
        names = deque([self._create_name(folder)])
        try:
            while len(names) < _NAMES_AT_ONCE:
                names.append(self._create_name(folder))
        except OSError:
            while len(names) > 1:
                Path(names.pop()).unlink()
        return names

    def _create_name(self, folder: str) -> str:
        name = f"{folder}{os.sep}{next(self._numbers):x}.dcm"
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        return name

    def leftovers(self) -> Generator[list[Path], None, None]:
        """Yield the notes of files that this process discarded, and every file of dead processes, some at a time."""
        self._has_lost_one = False
        for some in _some_of(list(self._notes)):
            yield some
            for _ in some:
                self._notes.popleft()
        yield from self._abandoned()

    def _abandoned(self) -> Generator[list[Path], None, None]:
        """Yield the files of each dead process; remove the folders that the caller has emptied."""
        if not self._folder.is_dir():
            return
        for folder in sorted(entry for entry in self._folder.iterdir() if entry.is_dir()):
            try:
                lock = _lock_of_the_dead(folder / LOCK)
            except (BlockingIOError, PermissionError, FileNotFoundError):
                continue  # its process lives, another ``sweep`` was faster, or the folder is another user's
            try:
                found = [path for path in folder.iterdir() if path.name != LOCK and not path.is_dir()]
                # A journal first: it makes whole what was torn.
                yield from _some_of(sorted(found, key=lambda path: (not is_journal(path), path.name)))
            finally:
                _remove(folder, lock)

    def files_of_the_dead(self) -> Iterator[Path]:
        """Yield every file of dead processes, and change nothing."""
        with suppress(OSError):  # another user's, or gone
            for folder in sorted(self._folder.iterdir()):
                with suppress(OSError):
                    if folder.is_dir() and not is_locked(folder / LOCK):
                        yield from sorted(path for path in folder.iterdir() if path.name != LOCK)

    def lock_path(self) -> Path:
        """Return the lock file for work on one location that excludes other such work."""
        return self._folder / LOCK

    def _own_folder(self) -> _Own:
        with self._mutex:
            if self._own is None or self._own.pid != os.getpid() or not self._own.lock.is_held():
                if self._own is not None:
                    self._lose(self._own)
                self._own = self._claim()
            return self._own

    def _lose(self, own: _Own) -> None:
        """Give up a folder: after a fork it is the parent's, else its drive was away, and ``sweep`` looks after it."""
        own.lock.close()
        own.journal.close()
        self._has_lost_one = own.pid == os.getpid()

    def _claim(self) -> _Own:
        """Create and lock a folder; create another when a ``sweep`` removed it before it was locked."""
        for _ in range(8):
            folder = self._folder / f"{os.getpid()}-{secrets.token_hex(8)}"
            self._folders.make(folder)
            with suppress(BlockingIOError, FileNotFoundError):
                return _Own(os.getpid(), folder, Lock(folder / LOCK), IntakeJournal())
        raise ArchiveUnavailable("Archive cannot be written: its staging folder cannot be locked")


def _lock_of_the_dead(path: Path) -> Lock:
    """Take the lock of a folder; try twice, because ``is_locked`` of another process holds it for a moment."""
    try:
        return Lock(path)
    except BlockingIOError:
        time.sleep(_MOMENT_S)
        return Lock(path)


def _number(name: Path) -> int:
    return int(name.stem, 16)


def _some_of(paths: list[Path]) -> Iterator[list[Path]]:
    """Yield them by the dozen, so that all of a dozen share what is waited for."""
    return (paths[start : start + _SWEPT_AT_ONCE] for start in range(0, len(paths), _SWEPT_AT_ONCE))


def _remove(folder: Path, lock: Lock) -> None:
    """Remove an emptied folder; leave one with files for the next ``sweep``."""
    try:
        empty = all(path.name == LOCK for path in folder.iterdir())
    except OSError:
        empty = False
    if not empty:
        lock.close()
        return
    with suppress(OSError):
        lock.remove()
        folder.rmdir()
