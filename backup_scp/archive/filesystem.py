"""Implement the archive in a folder: on a disk, or on a file system that several nodes share."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from backup_scp.archive import layout
from backup_scp.archive.durable_folders import DurableFolders, prefetch
from backup_scp.archive.leftovers import Leftovers
from backup_scp.archive.listing import Listing
from backup_scp.archive.marker import MARKER, Marker, new_identity
from backup_scp.archive.os_errors import translated
from backup_scp.archive.returning import FileOnItsWay, Returning
from backup_scp.archive.staging import FileInStaging
from backup_scp.archive.staging_folder import Staging
from backup_scp.archive.stored_files import Room, StoredFiles
from backup_scp.archive.volume import Volume
from backup_scp.errors import ArchiveUnavailable, Damaged
from backup_scp.machine import clock
from backup_scp.machine.folders import fsync, fsync_folder
from backup_scp.machine.process_lock import Lock, exclusive_lock
from backup_scp.ports import ArchivedFile, Arrival, Heading, InstanceKey, ReturnedFile, StagedFile

STAGING = ".staging"
DAMAGED = ".damaged"

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class FilesystemArchive:
    """Implements ``ports.Archive``; threads and processes may share the folder.

    It does nothing before the first use, so that a node starts on a full or read-only volume.

    Parameters
    ----------
    root
        The archive's folder; the first ``stage`` creates a missing one, readable by its owner only.
    reserve_bytes
        Refuse Data Sets while less is free; 0 accepts them until the volume is full.
    """

    def __init__(self, root: Path, reserve_bytes: int = 0) -> None:
        self._root = _without_length_limit(root.absolute())
        self._volume = Volume(self._root, reserve_bytes)
        self._marker = Marker(self._root)
        self._expected: str | None = None
        self._stored = StoredFiles(self._root, self._require_root)
        self._folders = DurableFolders(self._root)
        self._staging = Staging(self._root / STAGING, self._folders, self._volume)
        self._leftovers = Leftovers(self._root, self._root / DAMAGED, self._folders, self.verify)
        self._returning = Returning(
            self._root,
            self._root / DAMAGED,
            self._staging,
            self._folders,
            lambda: self._require_expected("written"),
            self._is_intact,
        )

    @property
    def trouble(self) -> str:
        return self._volume.trouble

    def mark_faulty(self, trouble: str) -> None:
        self._volume.mark_faulty(trouble)

    def require_ready(self) -> None:
        with translated("written"):
            self._require_expected("written")
            self._volume.require_room()

    def identity(self) -> str | None:
        with translated("read"):
            return self._marker.identity()

    def establish(self, identity: str | None = None) -> str:
        with self._volume.writing():
            self._folders.make(self._root / STAGING)
            with exclusive_lock(self._staging.lock_path()):
                found = self._marker.identity()
                if found is None:
                    found = identity or new_identity()
                    self._marker.write(found)
        return found

    def expect(self, identity: str) -> None:
        self._expected = identity

    def stage(self, heading: Heading) -> FileInStaging:
        with self._volume.writing():
            self._require_expected("written")
            return self._staging.begin(heading)

    def commit(
        self,
        staged: StagedFile,
        key: InstanceKey,
        arrival: Arrival,
        location: str = "",
        *,
        is_known: Callable[[str], bool] = lambda _: False,
    ) -> tuple[str, Arrival]:
        file = _own(staged)
        with self._volume.keeping():
            self._require_expected("written")
            location = location or self._place(key, file.sha256, arrival.site, is_known)
            file.finalize(arrival, location)
            try:
                self._show(file, self._path_of(location))
            except FileExistsError:
                self._keep_or_replace(file, location)
                arrival = self._arrived(location, arrival.site)
            file.free_memory()
            if file.has_moved or file.has_replaced:  # its staged name tells nothing, or what a power cut may undo
                self.settle([file])
        return location, arrival

    def settle(self, staged: Sequence[StagedFile]) -> None:
        files = list(map(_own, staged))
        ours = _held(files)
        files = [file for file in files if file.lock in ours]
        journals = {file.journal for file in files} - {None}
        with self._volume.keeping():
            self._require_expected("written")
            for file in files:
                file.write_again()
            for journal in filter(None, journals):
                journal.flush_files()
            if not journals:
                self._flush_folders_of(filter(None, (file.final for file in files)))
            self._staging.prepare_journal()

    def _flush_folders_of(self, files: Iterable[Path]) -> None:
        for folder in dict.fromkeys(file.parent for file in files):
            self._folders.make(folder)
            fsync_folder(folder)

    def forget(self, *staged: StagedFile) -> None:
        files = list(map(_own, staged))
        ours = _held(files)
        for file in files:
            if file.lock in ours:  # otherwise it keeps its note: ``sweep`` looks after it
                file.forget()

    def sweep(self) -> Iterator[list[str]]:
        with self._volume.writing(), closing(self._staging.leftovers()) as leftovers:
            self._require_expected("swept")
            for paths in leftovers:
                # An image may have both, its place in a journal and a staged name.
                if found := list(dict.fromkeys(location for path in paths for location in self._leftovers.show(path))):
                    self._leftovers.flush(found)
                    yield found
                for path in paths:
                    path.unlink(missing_ok=True)

    def take_back(self, location: str, sha256: str, fetch: Callable[[BinaryIO], object]) -> FileOnItsWay:
        with self._volume.writing():
            return self._returning.take(location, sha256, fetch)

    def keep(self, returned: Sequence[ReturnedFile]) -> None:
        files = [file for file in returned if isinstance(file, FileOnItsWay)]
        with self._volume.keeping():
            self._require_expected("written")
            self._returning.keep(files)

    def has(self, location: str) -> bool:
        return layout.is_location(location) and os.path.lexists(self._path_of(location))

    def location_of(self, key: InstanceKey, sha256: str) -> str:
        return layout.location_of(key, sha256)

    def close(self) -> None:
        self._staging.close()

    def left_by_the_dead(self) -> int:
        return self._leftovers.count(self._staging.files_of_the_dead())

    @property
    def has_leftovers(self) -> bool:
        return self._staging.has_notes

    def read(self, location: str) -> ArchivedFile:
        return self._stored.read(location)

    def verify(self, location: str, sha256: str) -> ArchivedFile:
        return self._stored.verify(location, sha256)

    def load(self, location: str, sha256: str, room: Room, *, by_sha256: bool = False) -> ArchivedFile:
        return self._stored.load(location, sha256, room, by_sha256=by_sha256)

    def announce(self, location: str) -> None:
        if layout.is_location(location):
            prefetch(self._root / location)

    def flush(self, location: str) -> None:
        final = self._root / location
        with self._stored.opened(location) as stream, self._volume.keeping():
            if sys.platform != "win32":  # Windows cannot flush a file that is opened for reading only
                fsync(stream.fileno())
            self._folders.make(final.parent)
            fsync_folder(final.parent)

    def locations(self, folder: str = "") -> Iterator[str]:
        return filter(layout.is_location, self._files(folder))

    def has_note(self, location: str) -> bool:
        with self._stored.opened(location) as stream:
            return os.fstat(stream.fileno()).st_nlink > 1

    def is_place_of(self, location: str, key: InstanceKey, sha256: str, site: str = "") -> bool:
        digests = sha256, layout.digest_for(sha256, site)
        return location in {layout.location_of(key, d, whole_digest=whole) for d in digests for whole in (False, True)}

    def folders(self) -> Iterator[str]:
        self._require_root()
        listing = Listing(self._root, _is_own)
        with translated("read"):
            for spread in filter(layout.is_spread, listing.folders("")):
                yield from (f"{spread}/{name}" for name in listing.folders(spread))
            self._require_all(listing)

    def foreign(self) -> Iterator[str]:
        return (name for name in self._files() if not layout.is_location(name))

    def free_bytes(self) -> int:
        with translated("read"):
            self._require_expected("read")
            return self._volume.free_bytes()

    def _show(self, file: FileInStaging, final: str) -> None:
        try:
            file.publish(final)
        except FileNotFoundError:  # the first of its series, or somebody has removed its folder since
            self._folders.name(Path(final).parent)
            file.publish(final)

    def _path_of(self, location: str) -> str:
        """Return a location's path as text: making a ``Path`` takes longer than the call of the system."""
        return f"{self._root}{os.sep}{location.replace('/', os.sep)}"

    def _place(self, key: InstanceKey, sha256: str, site: str, is_known: Callable[[str], bool]) -> str:
        """Return the location of a site's Data Set.

        It has the whole digest when another Data Set has the same first digits, and a digest of its own when another
        site has sent the same one: each site's file says when it came from there.
        """
        location = layout.location_of(key, sha256)
        if not self._is_there(location):
            return location
        for digest in (sha256, layout.digest_for(sha256, site)):
            for whole in (False, True):
                location = layout.location_of(key, digest, whole_digest=whole)
                if self._may_have(location, sha256, site, is_known):
                    return location
        raise ArchiveUnavailable("Archive cannot be written: other Data Sets have the locations of this one")

    def _is_there(self, location: str) -> bool:
        try:
            os.stat(self._path_of(location))  # noqa: PTH116 - see ``_path_of``
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
            return False
        return True

    def _may_have(self, location: str, sha256: str, site: str, is_known: Callable[[str], bool]) -> bool:
        """Tell whether a site's Data Set may have this location: nothing is there, or itself, or no known file."""
        if not self._is_there(location):
            return True
        try:
            held = self.read(location)
        except Damaged:
            return not is_known(location)
        return held.sha256 == sha256 and held.arrival.site == site

    def _arrived(self, location: str, site: str) -> Arrival:
        """Return the arrival of the file that had the location first.

        Raises
        ------
        ArchiveUnavailable
            It is another site's, which sent the same bytes at the same moment.
        """
        arrival = self.read(location).arrival
        if arrival.site != site:
            raise ArchiveUnavailable("Archive cannot be written: another file took the location; send it again")
        return arrival

    def _keep_or_replace(self, file: FileInStaging, location: str) -> None:
        """Keep an intact file at the location; move a damaged one to quarantine, and replace it."""
        if self._is_intact(location, file.sha256):
            self.flush(location)  # another program may have copied it here a moment ago
            return
        with exclusive_lock(self._staging.lock_path()):
            if self._is_intact(location, file.sha256):
                self.flush(location)  # another sender was faster
                return
            if self._has_another(location, file.sha256):
                raise ArchiveUnavailable("Archive cannot be written: another Data Set took the location; send it again")
            aside = self._root / DAMAGED / layout.quarantine_name(location, clock.now())
            self._folders.make(aside.parent)
            file.replace(self._root / location, aside)

    def _has_another(self, location: str, sha256: str) -> bool:
        try:
            return self.read(location).sha256 != sha256
        except Damaged:
            return False

    def _is_intact(self, location: str, sha256: str) -> bool:
        try:
            self.verify(location, sha256)
        except Damaged:
            return False
        return True

    def _files(self, folder: str = "") -> Iterator[str]:
        """Yield every file, relative to the root and with ``/``, without staged and damaged ones."""
        self._require_root()
        listing = Listing(self._root, _is_own)
        with translated("read"):
            yield from listing.files(folder)
            self._require_all(listing)

    def _require_all(self, listing: Listing) -> None:
        if listing.is_incomplete:
            self._require_root()
            listing.require_all()

    def _require_root(self) -> None:
        with translated("read"):
            if not self._root.is_dir():
                raise ArchiveUnavailable("Archive cannot be read: its folder is not there; is its drive connected?")
            self._require_expected("read")

    def _require_expected(self, action: str) -> None:
        """Raise when the folder is not the expected archive: its drive is missing, or it is another archive."""
        if self._expected is None:
            return
        found = self._marker.identity()
        if found is None:
            raise ArchiveUnavailable(f"Archive cannot be {action}: is the archive's drive connected?")
        if found != self._expected:
            raise ArchiveUnavailable(f"Archive cannot be {action}: this drive holds another archive")


def _held(files: Iterable[FileInStaging]) -> set[Lock]:
    """Return the locks of the staging folders that this process still has, after a look at each."""
    return {lock for lock in {file.lock for file in files} if lock.is_held()}


def _is_own(name: str) -> bool:
    """Tell whether a name in the archive's folder is one of the archive's own files and folders."""
    return name in (STAGING, DAMAGED) or name.startswith(MARKER)


def _own(staged: StagedFile) -> FileInStaging:
    if not isinstance(staged, FileInStaging):
        raise TypeError(f"{type(staged).__name__} was not staged in this archive")
    return staged


def _without_length_limit(path: Path) -> Path:
    """Lift Windows' limit of 260 characters: a location alone may have 266."""
    if sys.platform == "win32" and not str(path).startswith("\\\\"):
        return Path(f"\\\\?\\{path}")
    return path
