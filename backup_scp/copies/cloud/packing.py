"""Read an image from the archive, compare its Data Set with its digest, and write the file that leaves the node."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from backup_scp.copies.cloud.sealing import Seal
from backup_scp.copies.cloud.streams import Readable, Writable
from backup_scp.errors import DigestMismatch
from backup_scp.ports import ArchivedFile, StoredVersion

_READ_BYTES = 256 << 10


class Packed(NamedTuple):
    """A file that is ready to leave: SHA-256 of its bytes, 64 hex digits, and their number."""

    sha256: str
    size_bytes: int


def pack_image(file: ArchivedFile, held: StoredVersion, seal: Seal | None, into: Path) -> Packed:
    """Copy a file of the archive, sealed or as it is, into a new file.

    Raises
    ------
    FileMissing, DigestMismatch
        The original is gone or damaged.
    ArchiveUnavailable
    OSError
        The new file cannot be written.
    """
    with file.reopen() as stream, into.open("xb") as target:
        source = _ComparedStream(stream, file.data_set_offset)
        packed = pack(source, seal, target)
    if source.sha256 != held.sha256:
        raise DigestMismatch(f"{held.location} is damaged in the archive")
    return packed


def pack(source: Readable, seal: Seal | None, target: Writable) -> Packed:
    """Copy a stream, sealed or as it is.

    Raises
    ------
    Exception
        Whatever ``source`` or ``target`` raised.
    """
    if seal is not None:
        return Packed(*seal.write(source, target))
    digest, size_bytes = hashlib.sha256(), 0
    while part := source.read(_READ_BYTES):
        digest.update(part)
        size_bytes += len(part)
        target.write(part)
    target.flush()
    return Packed(digest.hexdigest(), size_bytes)


class _ComparedStream:
    """Hashes the Data Set of a file while it is read, in large parts: age asks for 8 KiB at a time."""

    def __init__(self, stream: BinaryIO, data_set_offset: int) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._header_left = data_set_offset
        self._part = memoryview(b"")

    @property
    def sha256(self) -> str:
        """SHA-256 of the Data Set so far."""
        return self._digest.hexdigest()

    def read(self, size: int = -1) -> bytes:
        if not self._part:
            self._fill()
        taken = self._part if size < 0 else self._part[:size]
        self._part = self._part[len(taken) :]
        return bytes(taken)

    def _fill(self) -> None:
        part = memoryview(self._stream.read(_READ_BYTES))
        self._digest.update(part[self._header_left :])
        self._header_left = max(self._header_left - len(part), 0)
        self._part = part
