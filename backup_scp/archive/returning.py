"""Take back files of the archive that a further copy has kept: written as a whole, compared, and shown at their place.

Unlike a Data Set that arrives, such a file is complete: its File Meta says when and from whom it came.  Many are made
durable together.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from backup_scp.archive import layout
from backup_scp.archive.durable_folders import DurableFolders
from backup_scp.archive.file_format import HEADER_LIMIT_BYTES, FileHeader, header_length, read_header
from backup_scp.archive.file_writing import set_aside, write_to
from backup_scp.archive.os_errors import NO_LINKS
from backup_scp.archive.staging_folder import Staging
from backup_scp.archive.volume_flush import VolumeFlush
from backup_scp.errors import ArchiveUnavailable, DigestMismatch, NotOurFile
from backup_scp.machine import clock
from backup_scp.machine.digests import Digest, digest_like
from backup_scp.machine.file_system import rename_new
from backup_scp.machine.folders import fsync_folder
from backup_scp.machine.process_lock import Lock, exclusive_lock
from backup_scp.machine.writeback import begin_writeback

_BINARY = getattr(os, "O_BINARY", 0)


class _Batch(NamedTuple):
    """Where files are written that are kept together: whoever begins one looks whether there is room."""

    folder: Path
    lock: Lock
    """Keeps ``sweep`` of other processes away."""
    flush: VolumeFlush
    """Is older than the first byte."""


@dataclass(slots=True)
class FileOnItsWay:
    """Implements ``ports.ReturnedFile``."""

    location: str
    size_bytes: int
    sha256: str
    path: str
    batch: _Batch
    has_moved: bool = False

    def discard(self) -> None:
        if not self.has_moved:
            with suppress(OSError):
                os.unlink(self.path)  # noqa: PTH108 - for each image


class Returning:
    """Writes files beside their places, and shows them.

    Parameters
    ----------
    root, damaged
        The archive's folder, and its folder for damaged files.
    staging
        Has a folder for each process.
    folders
        Creates missing folders.
    require_root
        Raises ``ArchiveUnavailable`` when the folder is not the archive's.
    is_intact
        Tells whether the file at a location is whole, and has this SHA-256.
    """

    def __init__(
        self,
        root: Path,
        damaged: Path,
        staging: Staging,
        folders: DurableFolders,
        require_root: Callable[[], None],
        is_intact: Callable[[str, str], bool],
    ) -> None:
        self._root = root
        self._damaged = damaged
        self._staging = staging
        self._folders = folders
        self._is_intact = is_intact
        self._require_root = require_root
        self._batch: _Batch | None = None
        self._numbers = itertools.count()

    def take(self, location: str, sha256: str, fetch: Callable[[BinaryIO], object]) -> FileOnItsWay:
        """See ``Archive.take_back``."""
        batch = self._batch = self._batch or self._begin()
        path = f"{batch.folder}{os.sep}{next(self._numbers):x}.back"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
        except OSError:
            self._batch = None  # its folder may be gone
            raise
        try:
            try:
                incoming = _Incoming(descriptor)
                fetch(cast("BinaryIO", incoming))
                header = incoming.finish(location, sha256)
                begin_writeback(descriptor, 0, header.length + header.size_bytes)  # while others are read
            finally:
                os.close(descriptor)
        except BaseException:
            with suppress(OSError):
                os.unlink(path)  # noqa: PTH108 - a name, not a path
            raise
        return FileOnItsWay(header.location, header.size_bytes, header.sha256, path, batch)

    def _begin(self) -> _Batch:
        self._require_root()
        folder, lock = self._staging.own_folder()
        return _Batch(folder, lock, VolumeFlush(self._root))

    def keep(self, files: Sequence[FileOnItsWay]) -> None:
        """See ``Archive.keep``: no name is given before the bytes are durable."""
        self._batch = None  # what comes from now on is of another one
        flushes: dict[VolumeFlush, list[FileOnItsWay]] = {}
        for file in files:
            flushes.setdefault(file.batch.flush, []).append(file)
        if not all(lock.is_held() for lock in {file.batch.lock for file in files}):
            raise ArchiveUnavailable("Archive cannot be written: its drive was away; it is tried again")
        for flush, some in flushes.items():
            flush(file.path for file in some)
        folders = dict.fromkeys(file.location.rpartition("/")[0] for file in files)
        for folder in folders:
            self._folders.name(self._root / folder)
        for file in files:
            self._show(file)
        if not all(flush.is_of_all for flush in flushes):  # else one flush for all of them, not one for each study
            for folder in folders:
                self._folders.make(self._root / folder)
                fsync_folder(self._root / folder)
        for flush in flushes:
            flush()
        for file in files:
            file.discard()

    def _show(self, file: FileOnItsWay) -> None:
        final = f"{self._root}{os.sep}{file.location.replace('/', os.sep)}"
        try:
            file.has_moved = rename_new(file.path, final)
            if not file.has_moved:
                self._link(file, final)
        except FileExistsError:
            self._replace_damaged(file, Path(final))

    def _link(self, file: FileOnItsWay, final: str) -> None:
        try:
            os.link(file.path, final)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            with exclusive_lock(self._staging.lock_path()):  # a rename overwrites
                if os.path.lexists(final):
                    raise FileExistsError from None
                os.rename(file.path, final)  # noqa: PTH104 - names, not paths
                file.has_moved = True

    def _replace_damaged(self, file: FileOnItsWay, final: Path) -> None:
        """Keep an intact file that is there; rename a damaged one, never delete it, and take its place."""
        with exclusive_lock(self._staging.lock_path()):
            if self._is_intact(file.location, file.sha256):
                return
            aside = self._damaged / layout.quarantine_name(file.location, clock.now())
            self._folders.make(aside.parent)
            set_aside(final, aside)
            os.replace(file.path, final)  # noqa: PTH105 - a name, not a path
            file.has_moved = True


class _Incoming:
    """Takes the bytes of a file as they come, and compares them with what its header says."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._beginning = bytearray()
        self._header: FileHeader | None = None
        self._digest: Digest | None = None
        self._size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append some bytes."""
        write_to(self._descriptor, data)
        with memoryview(data) as whole, whole.cast("B") as view:
            self._compare(view)
            return len(view)

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def _compare(self, view: memoryview) -> None:
        if self._digest is None:
            before = len(self._beginning)
            self._beginning += view[:HEADER_LIMIT_BYTES]  # not all of a large part
            length = header_length(self._beginning)
            if length is None or len(self._beginning) < length:
                return
            with io.BytesIO(self._beginning) as stream:
                header = self._header = read_header(stream, "The file that came back")
            self._digest = digest_like(header.xxh3_128 or header.sha256)
            self._beginning = bytearray()
            view = view[length - before :]
        self._digest.update(view)
        self._size_bytes += len(view)

    def finish(self, location: str, sha256: str) -> FileHeader:
        """Return the header of the file, which is whole and the one that was asked for.

        Raises
        ------
        NotOurFile, DigestMismatch
        """
        header, digest = self._header, self._digest
        if header is None or digest is None:
            raise NotOurFile("It does not begin like a file of this archive")
        if not layout.is_location(header.location):
            raise DigestMismatch("The file that came back names no place in an archive")
        if header.location != location and location:
            raise DigestMismatch(f"{location}: another file came back")
        if header.sha256 != sha256:
            raise DigestMismatch(f"{header.location}: another version came back")
        expected = header.xxh3_128 or header.sha256
        if self._size_bytes != header.size_bytes or digest.hexdigest() != expected:
            raise DigestMismatch(f"{header.location} came back damaged")
        return header
