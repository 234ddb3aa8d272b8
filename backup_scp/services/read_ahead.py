"""Read instances once, compare them with their digests, and send them from the same memory (docs/adr/0019)."""

from __future__ import annotations

import mmap
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from backup_scp.errors import DigestMismatch
from backup_scp.machine import clock
from backup_scp.machine.digests import digest_like
from backup_scp.ports import ArchivedFile, ReadableArchive, StoredVersion, Upcoming

MEMORY_BYTES = 32 << 20
"""The longest Data Set that is sent from memory, in bytes; a longer one is read twice."""

_MOST_ROOMS = 8  # buffers of all retrieves together; a retrieve without one reads each Data Set twice, in small parts
_MOST_IDLE = 2  # free buffers kept for the next retrieve: to get new memory takes as long as to fill it
_PART_BYTES = 1 << 20
_CACHED_BYTES_PER_S = 1e9  # a file that is read faster than this was in the page cache,
_OPENED_S = 1e-3  # without the time for opening it and reading its header

_permits = threading.BoundedSemaphore(_MOST_ROOMS)
_idle: deque[Buffer] = deque(maxlen=_MOST_IDLE)


@dataclass(frozen=True, slots=True)
class LoadedInstance:
    """A stored instance that is ready to be sent, or the error that prevents it.

    Attributes
    ----------
    began_at
        When its reading began.
    """

    held: StoredVersion
    began_at: datetime
    file: ArchivedFile | None
    error: Exception | None = None

    def required(self) -> ArchivedFile:
        """Return the file, or raise the error that prevents sending it."""
        if self.file is None:
            raise self.error or RuntimeError
        return self.file


class VerifiedReader(AbstractContextManager["VerifiedReader"]):
    """Reads instances in order, one at a time, into the same buffer; leaving the ``with`` block frees the buffer.

    While one instance is sent, it asks a slow medium to prefetch the next one.  While it waits for the peer's answer,
    it reads that one.

    Parameters
    ----------
    archive
        Holds the instances.
    by_sha256
        Whether to compare each one by SHA-256, see ``Archive.load``.
    """

    def __init__(self, archive: ReadableArchive, *, by_sha256: bool = False) -> None:
        self._archive = archive
        self._by_sha256 = by_sha256
        self._room: Buffer | None = None
        self._next: StoredVersion | None = None
        self._ahead: LoadedInstance | None = None
        self._is_slow = False  # whether the medium is slow, as measured so far

    def __enter__(self) -> Self:
        if _permits.acquire(blocking=False):
            try:
                self._room = _idle.pop()
            except IndexError:
                self._room = Buffer(MEMORY_BYTES)
        return self

    def __exit__(self, *exc: object) -> None:
        room, self._room, self._ahead = self._room, None, None
        if room is not None:
            _idle.append(room)
            _permits.release()

    def in_order(self, held: Sequence[StoredVersion]) -> Iterator[LoadedInstance]:
        """Yield the instances in order.  The buffer of one is reused when the next is requested or read ahead."""
        for number, one in enumerate(held):
            loaded = self._take_ahead(one) or self.load(one)
            self._next = held[number + 1] if number + 1 < len(held) else None
            if self._next is not None and self._is_slow:
                self._archive.announce(self._next.location)
            yield loaded

    def read_ahead(self) -> Upcoming | None:
        """Read the next instance now, into the buffer of the one that was sent; return it if it is intact.

        An instance too long for the buffer is not read ahead: the peer's answer, or a C-CANCEL, would have to wait.
        """
        if self._next is not None and self._ahead is None and self._next.size_bytes <= MEMORY_BYTES:
            self._ahead = self.load(self._next)
        if self._ahead is None or self._ahead.file is None:
            return None
        return self._ahead.file, self._ahead.held

    def _take_ahead(self, held: StoredVersion) -> LoadedInstance | None:
        """Return the instance that was read ahead, if it is the requested one."""
        ahead, self._ahead = self._ahead, None
        return ahead if ahead is not None and ahead.held is held else None

    def load(self, held: StoredVersion, buffer: Buffer | None = None) -> LoadedInstance:
        """Read an instance and compare it.  Without a buffer this reuses the one of the instance before."""
        began_at, began = clock.now(), time.perf_counter()
        room = buffer or self._room or _NO_ROOM
        try:
            file = self._archive.load(held.location, held.sha256, room, by_sha256=self._by_sha256)
        except Exception as error:  # noqa: BLE001 - ``required`` raises it for the caller that needs the instance
            return LoadedInstance(held, began_at, None, error)
        self._is_slow = _was_slow(held.size_bytes, time.perf_counter() - began)
        return LoadedInstance(held, began_at, file)


def _was_slow(size_bytes: int, elapsed_s: float) -> bool:
    """Tell whether a file came from the medium, and not from the system's memory."""
    return elapsed_s > _OPENED_S + size_bytes / _CACHED_BYTES_PER_S


class Buffer:
    """Memory for one Data Set, used again for each next one."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._memory = memoryview(b"")

    def __call__(self, size_bytes: int) -> memoryview | None:
        """Return a buffer of this size, None when it is too large.  The buffer returned before is no longer valid."""
        if size_bytes > self._limit_bytes:
            return None
        if size_bytes > len(self._memory):
            try:
                self._memory = memoryview(mmap.mmap(-1, -(-size_bytes // _PART_BYTES) * _PART_BYTES))
            except OSError:
                return None
        return self._memory[:size_bytes]


_NO_ROOM = Buffer(0)


def parts(file: ArchivedFile) -> Iterator[bytes | memoryview]:
    """Yield the Data Set from the memory that was compared, or read and compare it again.

    Raises
    ------
    DigestMismatch
        After the last part, when the file has changed since it was compared.  A caller that must know this before it
        uses the last part requests the part after it first, as ``p_data.writes`` does.
    """
    if file.content is not None:
        yield file.content
        return
    expected = file.xxh3_128 or file.sha256
    digest = digest_like(expected)
    with file.data_set() as stream:
        while part := stream.read(_PART_BYTES):
            digest.update(part)
            yield part
    if digest.hexdigest() != expected:
        raise DigestMismatch(f"{file.location} changed while it was sent")


def compare_again(file: ArchivedFile) -> None:
    """Compare a file with its digest again, when it is not in memory.

    Raises
    ------
    DigestMismatch
    """
    if file.content is None:
        for _ in parts(file):
            pass
