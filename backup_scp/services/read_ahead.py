"""Read instances once, compare them, and send them from the memory that was compared (docs/adr/0019)."""

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
from backup_scp.ports import Archive, ArchivedFile, StoredVersion, Upcoming

MEMORY_BYTES = 32 << 20
"""The largest Data Set that is sent from memory; a longer one is read twice."""

_MOST_ROOMS = 8  # of all retrieves together; one that comes on top reads each Data Set twice, in little memory
_MOST_IDLE = 2  # rooms that wait for the next retrieve: a system takes as long to give new memory as to fill it
_PART_BYTES = 1 << 20
_CACHED_BYTES_PER_S = 1e9  # what is read faster than this was in the system's memory,
_OPENED_S = 1e-3  # but for the time in which it is opened and its header read

_permits = threading.BoundedSemaphore(_MOST_ROOMS)
_idle: deque[_Buffer] = deque(maxlen=_MOST_IDLE)


@dataclass(frozen=True, slots=True)
class LoadedInstance:
    """A stored instance that is ready to be sent, or why it is not.

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
        """Return the file, or raise the error that kept it from being ready."""
        if self.file is None:
            raise self.error or RuntimeError
        return self.file


class VerifiedReader(AbstractContextManager["VerifiedReader"]):
    """Reads instances in order, one at a time, into the same memory; leave the ``with`` block to give that back.

    While one is on its way to the peer a slow medium is told of the next, and while its answer is awaited that is read.

    Parameters
    ----------
    archive
        Where they are.
    by_sha256
        Whether each must be compared by SHA-256, see ``Archive.load``.
    """

    def __init__(self, archive: Archive, *, by_sha256: bool = False) -> None:
        self._archive = archive
        self._by_sha256 = by_sha256
        self._room: _Buffer | None = None
        self._next: StoredVersion | None = None
        self._ahead: LoadedInstance | None = None
        self._is_slow = False  # the medium, as far as is known

    def __enter__(self) -> Self:
        if _permits.acquire(blocking=False):
            try:
                self._room = _idle.pop()
            except IndexError:
                self._room = _Buffer(MEMORY_BYTES)
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
        """Read the next instance now, into the buffer of the one that has been sent; return it if it is intact.

        A longer one than fits into memory is not: an answer that is there, or a C-CANCEL, would wait for all of it.
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

    def load(self, held: StoredVersion) -> LoadedInstance:
        """Read an instance and compare it.  This reuses the buffer of the one before."""
        began_at, began = clock.now(), time.perf_counter()
        room = _NO_ROOM if self._room is None else self._room
        try:
            file = self._archive.load(held.location, held.sha256, room, by_sha256=self._by_sha256)
        except Exception as error:  # noqa: BLE001 - it is raised again where somebody waits for the instance
            return LoadedInstance(held, began_at, None, error)
        self._is_slow = _was_slow(held.size_bytes, time.perf_counter() - began)
        return LoadedInstance(held, began_at, file)


def _was_slow(size_bytes: int, elapsed_s: float) -> bool:
    """Tell whether a file came from the medium, and not from the system's memory."""
    return elapsed_s > _OPENED_S + size_bytes / _CACHED_BYTES_PER_S


class _Buffer:
    """Memory for one Data Set after the other."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._memory = memoryview(b"")

    def __call__(self, size_bytes: int) -> memoryview | None:
        """Return a buffer of this size, None when it is too large.  The one before must not be used any more."""
        if size_bytes > self._limit_bytes:
            return None
        if size_bytes > len(self._memory):
            try:
                self._memory = memoryview(mmap.mmap(-1, -(-size_bytes // _PART_BYTES) * _PART_BYTES))
            except OSError:
                return None
        return self._memory[:size_bytes]


_NO_ROOM = _Buffer(0)


def parts(file: ArchivedFile) -> Iterator[bytes | memoryview]:
    """Yield the Data Set from the memory that was compared, or read and compare it again.

    Raises
    ------
    DigestMismatch
        After the last part: it has changed since it was compared.  Whoever has to know that before the last part is
        used asks for one more than is at hand, as ``p_data.writes`` does.
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
    """Read a file that was not kept in memory again, and compare it with its digest.

    Raises
    ------
    DigestMismatch
    """
    if file.content is None:
        for _ in parts(file):
            pass
