"""Write a batch of images to a drive: one pass over each original, one flush, and all of it read back."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import BinaryIO, Self

from xxhash import xxh3_128

from backup_scp.errors import DigestMismatch
from backup_scp.machine.digests import Digest, digest_like
from backup_scp.machine.folders import fsync
from backup_scp.machine.root_folder import NEW, READ, RootFolder
from backup_scp.machine.writeback import begin_reading, begin_writeback
from backup_scp.ports import ArchivedFile

CHUNK_BYTES = 1 << 20
_WRITEBACK_BYTES = 8 << 20
_AHEAD_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class FileDigests:
    """Of a whole file: SHA-256 for the lists, XXH3 for reading it back, and the number of bytes."""

    sha256: str
    xxh3_128: str
    size_bytes: int


class Copier:
    """Copies files in one pass; SHA-256 is computed by one further thread meanwhile."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "drive digest")
        self._buffers = [memoryview(bytearray(CHUNK_BYTES)) for _ in range(2)]

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    def copy_from(self, source: BinaryIO, file: ArchivedFile, write: Callable[[memoryview], object]) -> FileDigests:
        """Read a file of the archive, open at its first byte; compare its Data Set with its digest; write all of it.

        The Data Set is compared by XXH3, where the file has one.

        Raises
        ------
        DigestMismatch
            The original is damaged; nothing that was written may be used.
        FileMissing, ArchiveUnavailable
        """
        whole, quick = sha256(), xxh3_128()
        expected = file.xxh3_128 or file.sha256
        data_set = digest_like(expected)
        before, size = file.data_set_offset, 0
        pending: list[Future[None]] = []
        number = 0
        try:
            while count := source.readinto(self._buffers[number % 2]):  # type: ignore[attr-defined]
                chunk = self._buffers[number % 2][:count]
                pending.append(self._thread.submit(_update, whole, chunk))
                quick.update(chunk)
                data_set.update(chunk[before:])
                before, size = max(before - count, 0), size + count
                write(chunk)
                while len(pending) > 1:  # the other buffer is free again
                    pending.pop(0).result()
                number += 1
        finally:
            for future in pending:
                future.result()
        if data_set.hexdigest() != expected:
            raise DigestMismatch(f"{file.location} is damaged: its Data Set does not match the digest in the file")
        return FileDigests(whole.hexdigest(), quick.hexdigest(), size)


def _update(digest: Digest, chunk: memoryview) -> None:
    digest.update(chunk)


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
    """

    def __init__(self, root: RootFolder, name: str, *, is_flushed: bool = False) -> None:
        self._root, self._name = root, name
        self._is_flushed = is_flushed or not root.flushes_all
        self._size = self._started = 0

    def __enter__(self) -> Self:
        self._descriptor = self._root.open(self._name, NEW)
        return self

    def write(self, chunk: memoryview | bytes) -> None:
        """Write all of these bytes; start writeback now and then."""
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


def read_back(root: RootFolder, name: str, buffer: memoryview | None = None) -> Iterator[memoryview]:
    """Yield the bytes of a file as its medium has them, not the page cache.

    Parameters
    ----------
    buffer
        Memory to use for each part; None allocates some.

    Raises
    ------
    OSError
    """
    descriptor = root.open(name, READ)
    try:
        uncached(descriptor)
        begin_reading(descriptor, _AHEAD_BYTES)
        with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as stream:
            buffer = buffer or memoryview(bytearray(CHUNK_BYTES))
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


def digest_of(root: RootFolder, name: str, digest: Digest, buffer: memoryview | None = None) -> str:
    """Return the digest of a file as its medium has it; ``buffer`` as in ``read_back``."""
    for chunk in read_back(root, name, buffer):
        digest.update(chunk)
    return digest.hexdigest()
