"""Read the visible files of an archive, and tell a damaged file from an archive that is away."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from backup_scp.archive import layout
from backup_scp.archive.file_format import FileHeader, read_header
from backup_scp.archive.os_errors import UNREADABLE, failure, reason, whose
from backup_scp.archive.stored_stream import open_stored
from backup_scp.errors import DigestMismatch, FileMissing
from backup_scp.machine.digests import digest_like, digest_rest, fill_and_digest
from backup_scp.machine.folders import uncache
from backup_scp.ports import ArchivedFile

# Errors that concern one file only, if the archive's marker is readable; otherwise the whole archive is away.
_OF_ONE_FILE = UNREADABLE | {errno.ESTALE, errno.EACCES, errno.EPERM}

Room = Callable[[int], memoryview | None]


class StoredFiles:
    """Reads files; threads may share it.

    Parameters
    ----------
    root
        The archive's folder.
    require_root
        Raises ``ArchiveUnavailable`` when the folder is not there, or is another archive's.
    """

    def __init__(self, root: Path, require_root: Callable[[], None]) -> None:
        self._root = root
        self._require_root = require_root

    def read(self, location: str) -> ArchivedFile:
        """See ``Archive.read``."""
        with self.opened(location) as stream:
            return self._described(stream, location)

    def verify(self, location: str, sha256: str) -> ArchivedFile:
        """See ``Archive.verify``."""
        with self.opened(location) as stream:
            uncache(stream)
            return self._compared(stream, location, sha256)

    def load(self, location: str, sha256: str, room: Room, *, by_sha256: bool) -> ArchivedFile:
        """See ``Archive.load``."""
        with self.opened(location) as stream:
            try:
                return self._compared(stream, location, sha256, room, quickly=not by_sha256)
            except DigestMismatch:  # perhaps a repair or an error in the page cache: read the disk itself
                pass
        with self.opened(location) as stream:
            uncache(stream)
            return self._compared(stream, location, sha256, room)

    @contextmanager
    def opened(self, location: str) -> Iterator[BinaryIO]:
        """Open a file; translate the errors of the block.

        Raises
        ------
        FileMissing, DigestMismatch
            This file is damaged.
        ArchiveUnavailable
        """
        if not layout.is_location(location):
            raise FileMissing("The index names a file that cannot be in this archive")
        path = (
            f"{self._root}{os.sep}{location.replace('/', os.sep)}"  # a Path takes as long to make as the file to open
        )
        with self._explained(location), open(path, "rb") as stream:  # noqa: PTH123
            yield stream

    @contextmanager
    def _explained(self, location: str) -> Iterator[None]:
        """Translate OS errors of the block: this file is damaged, or the archive is away."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            self._require_root()
            raise FileMissing(f"{location} is gone from the archive") from error
        except OSError as error:
            if error.errno not in _OF_ONE_FILE:
                raise failure(error, "read") from error
            self._require_root()
            raise DigestMismatch(f"{location} cannot be read: {reason(error)}{whose(error)}") from error

    def _described(self, stream: BinaryIO, location: str) -> ArchivedFile:
        """Read the header, and compare it with the file's location and length."""
        header = read_header(stream, location)
        if header.location != location:
            raise DigestMismatch(f"{location} is damaged: a file that was stored elsewhere is in its place")
        _require_length(stream, header, location)
        return ArchivedFile(
            location=location,
            heading=header.heading,
            arrival=header.arrival,
            sha256=header.sha256,
            size_bytes=header.size_bytes,
            data_set_offset=header.length,
            name=stream.name,
            reopen=functools.partial(open_stored, stream.name, functools.partial(self._explained, location)),
            xxh3_128=header.xxh3_128,
        )

    def _compared(
        self, stream: BinaryIO, location: str, sha256: str, room: Room | None = None, *, quickly: bool = False
    ) -> ArchivedFile:
        """Read and hash the whole file, in memory if it fits."""
        file = self._described(stream, location)
        xxh3 = file.xxh3_128 if quickly and file.sha256 == sha256 else ""  # computed from the bytes with this SHA-256
        expected = xxh3 or file.sha256
        content, digest = room(file.size_bytes) if room else None, digest_like(expected)
        found = digest_rest(stream, digest) if content is None else fill_and_digest(content, stream, digest)
        if found != expected:
            raise DigestMismatch(f"{location} is damaged: its Data Set does not match the digest in the file")
        if file.sha256 != sha256:
            raise DigestMismatch(f"{location} holds another Data Set than was received under this name")
        return replace(file, xxh3_128=xxh3, content=content)


def _require_length(stream: BinaryIO, header: FileHeader, location: str) -> None:
    expected = header.length + header.size_bytes
    found = os.fstat(stream.fileno()).st_size
    if found != expected:
        raise DigestMismatch(f"{location} is damaged: it has {found} bytes, {expected} were stored")
