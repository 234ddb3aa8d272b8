"""Take back files of the archive that a further copy has kept: written as a whole, compared, and shown at their place.

Unlike a Data Set that arrives, such a file is complete: its File Meta says when and from whom it came.  Many are made
durable together.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from backup_scp.archive import layout
from backup_scp.archive.durable_folders import DurableFolders
from backup_scp.archive.file_format import HEADER_LIMIT_BYTES, FileHeader, header_length, read_header
from backup_scp.archive.file_writing import set_aside, write_all
from backup_scp.archive.os_errors import NO_LINKS
from backup_scp.archive.staging_folder import Staging
from backup_scp.errors import DigestMismatch, NotOurFile
from backup_scp.machine import clock
from backup_scp.machine.digests import Digest, digest_like
from backup_scp.machine.file_system import can_flush_all, flush_all
from backup_scp.machine.folders import fsync, fsync_folder
from backup_scp.machine.process_lock import Lock, exclusive_lock

_BINARY = getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class FileOnItsWay:
    """Implements ``ports.ReturnedFile``."""

    location: str
    size_bytes: int
    sha256: str
    path: Path
    lock: Lock
    """Keeps ``sweep`` of other processes away."""

    def discard(self) -> None:
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


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
    is_intact
        Tells whether the file at a location is whole, and has this SHA-256.
    """

    def __init__(
        self,
        root: Path,
        damaged: Path,
        staging: Staging,
        folders: DurableFolders,
        is_intact: Callable[[str, str], bool],
    ) -> None:
        self._root = root
        self._damaged = damaged
        self._staging = staging
        self._folders = folders
        self._is_intact = is_intact

    def take(self, location: str, sha256: str, fetch: Callable[[BinaryIO], object]) -> FileOnItsWay:
        """See ``Archive.take_back``."""
        path, lock = self._staging.new_path(".back")
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
            with io.FileIO(descriptor, "wb") as file:
                incoming = _Incoming(file)
                fetch(cast("BinaryIO", incoming))
                header = incoming.finish(location, sha256)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return FileOnItsWay(header.location, header.size_bytes, header.sha256, path, lock)

    def keep(self, files: Sequence[FileOnItsWay]) -> None:
        """See ``Archive.keep``: no name is given before the bytes are durable."""
        flushes_all = can_flush_all(self._root)
        self._flush((file.path for file in files), flushes_all=flushes_all)
        folders = dict.fromkeys((self._root / file.location).parent for file in files)
        for folder in folders:
            self._folders.name(folder)
        for file in files:
            self._show(file)
        if not flushes_all:  # else one flush for all of them, not one for each study
            for folder in folders:
                self._folders.make(folder)
                fsync_folder(folder)
        self._flush((), flushes_all=flushes_all)
        for file in files:
            file.discard()

    def _flush(self, paths: Iterable[Path], *, flushes_all: bool) -> None:
        if flushes_all:
            descriptor = os.open(self._root, os.O_RDONLY)
            try:
                flush_all(descriptor)
            finally:
                os.close(descriptor)
            return
        for path in paths:
            with path.open("rb+") as file:
                fsync(file.fileno())

    def _show(self, file: FileOnItsWay) -> None:
        final = self._root / file.location
        try:
            os.link(file.path, final)
        except FileExistsError:
            self._replace_damaged(file, final)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            with exclusive_lock(self._staging.lock_path()):  # a rename overwrites
                if not os.path.lexists(final):
                    file.path.rename(final)
                    return
            self._replace_damaged(file, final)

    def _replace_damaged(self, file: FileOnItsWay, final: Path) -> None:
        """Keep an intact file that is there; rename a damaged one, never delete it, and take its place."""
        with exclusive_lock(self._staging.lock_path()):
            if self._is_intact(file.location, file.sha256):
                return
            aside = self._damaged / layout.quarantine_name(file.location, clock.now())
            self._folders.make(aside.parent)
            set_aside(final, aside)
            file.path.replace(final)


class _Incoming:
    """Takes the bytes of a file as they come, and compares them with what its header says."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._beginning = bytearray()
        self._header: FileHeader | None = None
        self._digest: Digest | None = None
        self._size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append some bytes."""
        write_all(self._file, data)
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
