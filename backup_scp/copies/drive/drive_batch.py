"""Copy a file of the archive in one pass, write it past the page cache, and read it back from its medium."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import BinaryIO, NamedTuple, Self

from xxhash import xxh3_128

from backup_scp.errors import DigestMismatch
from backup_scp.machine.digests import Digest, digest_like
from backup_scp.machine.folders import fsync
from backup_scp.machine.medium import MediumWriter, aligned, read_medium
from backup_scp.machine.root_folder import NEW, READ, RootFolder
from backup_scp.machine.writeback import begin_reading, begin_writeback
from backup_scp.ports import ArchivedFile

CHUNK_BYTES = 1 << 20
_WRITEBACK_BYTES = 8 << 20
_AHEAD_BYTES = 32 << 20


class FileDigests(NamedTuple):
    """Of a file, to compare it with what is read back: its beginning up to the Data Set, and the Data Set.

    The second is XXH3 or SHA-256, as the archive's file has it.
    """

    beginning: str
    data_set: str
    size_bytes: int


class DigestOfFile:
    """Computes ``FileDigests`` from the chunks of a file.

    Parameters
    ----------
    data_set_offset
        The length of the beginning.
    expected
        What the digest of the Data Set should be.
    """

    def __init__(self, data_set_offset: int, expected: str) -> None:
        self._beginning, self._data_set = xxh3_128(), digest_like(expected)
        self._beginning_left, self._size = data_set_offset, 0

    def update(self, chunk: memoryview) -> None:
        """Go on with more bytes."""
        self._size += len(chunk)
        if self._beginning_left:
            self._beginning.update(chunk[: self._beginning_left])
            rest = chunk[self._beginning_left :]
            self._beginning_left -= len(chunk) - len(rest)
            chunk = rest
        self._data_set.update(chunk)

    @property
    def digests(self) -> FileDigests:
        """Of all bytes so far."""
        return FileDigests(self._beginning.hexdigest(), self._data_set.hexdigest(), self._size)


def copy_from(
    source: BinaryIO, file: ArchivedFile, write: Callable[[memoryview], object], buffer: memoryview
) -> FileDigests:
    """Read a file of the archive, open at its first byte; compare its Data Set with its digest; write all of it.

    The Data Set is compared by XXH3, where the file has one.

    Raises
    ------
    DigestMismatch
        The original is damaged; nothing that was written may be used.
    FileMissing, ArchiveUnavailable
    """
    expected = file.xxh3_128 or file.sha256
    digest = DigestOfFile(file.data_set_offset, expected)
    while count := source.readinto(buffer):  # type: ignore[attr-defined]
        chunk = buffer[:count]
        digest.update(chunk)
        write(chunk)
    if digest.digests.data_set != expected:
        raise DigestMismatch(f"{file.location} is damaged: its Data Set does not match the digest in the file")
    return digest.digests


class NewFile:
    """A file that is being written under a temporary name; leaving the block flushes it where that must be done.

    Parameters
    ----------
    root
        The drive's folder.
    name
        Its temporary name.
    is_flushed
        Whether to flush it in any case, also where ``RootFolder.flush`` will flush it with all others.
    is_large
        Whether to write it past the page cache, where the file system can: all chunks are in ``aligned`` memory.
    """

    def __init__(self, root: RootFolder, name: str, *, is_flushed: bool = False, is_large: bool = False) -> None:
        self._root, self._name = root, name
        self._is_flushed = is_flushed or not root.flushes_all
        self._is_large = is_large and root.flushes_all
        self._size = self._started = 0

    def __enter__(self) -> Self:
        self._descriptor = self._root.open(self._name, NEW)
        self._medium = MediumWriter(self._descriptor) if self._is_large else None
        return self

    def write(self, chunk: memoryview | bytes) -> None:
        """Write all of these bytes; start writeback now and then."""
        if self._medium is not None:
            self._medium.write(memoryview(chunk))
            return
        done = 0
        while done < len(chunk):
            done += os.write(self._descriptor, chunk[done:] if done else chunk)
        self._size += len(chunk)
        if self._size - self._started >= _WRITEBACK_BYTES:
            self._begin_writeback()

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            if kind is None:
                self._begin_writeback()
                if self._is_flushed:
                    fsync(self._descriptor)
        finally:
            os.close(self._descriptor)
            if kind is not None:
                with suppress(OSError):
                    self._root.remove(self._name)

    def _begin_writeback(self) -> None:
        if self._root.flushes_all and self._size > self._started:
            begin_writeback(self._descriptor, self._started, self._size - self._started)
            self._started = self._size


def read_back(
    root: RootFolder, name: str, buffer: memoryview | None = None, expected_bytes: int = 0
) -> Generator[memoryview, None, None]:
    """Yield the bytes of a file as its medium has them, not the page cache; close the generator.

    Parameters
    ----------
    buffer, expected_bytes
        As ``read_medium`` takes them; None allocates memory.

    Raises
    ------
    OSError
    """
    buffer = buffer or aligned(CHUNK_BYTES)
    if root.flushes_all:
        yield from read_medium(lambda flags: root.open(name, READ | flags), buffer, expected_bytes)
        return
    descriptor = root.open(name, READ)
    try:
        uncached(descriptor)
        begin_reading(descriptor, _AHEAD_BYTES)
        with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as stream:
            while count := stream.readinto(buffer):
                yield buffer[:count]
        uncached(descriptor)  # this memory is better used by others
    finally:
        os.close(descriptor)


def uncached(descriptor: int) -> None:
    """Drop a file's flushed bytes from the page cache, where the system can."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def digest_of(
    root: RootFolder, name: str, digest: Digest, buffer: memoryview | None = None, expected_bytes: int = 0
) -> str:
    """Return the digest of a file as its medium has it; ``buffer`` and ``expected_bytes`` as in ``read_back``."""
    for chunk in read_back(root, name, buffer, expected_bytes):
        digest.update(chunk)
    return digest.hexdigest()
