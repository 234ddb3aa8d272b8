"""What leaves the archive: read once, compared, and sent from the memory in which it was compared (docs/adr/0019)."""

from __future__ import annotations

import mmap
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Self

from backup_scp.digests import digest_like
from backup_scp.errors import DigestMismatch
from backup_scp.ports import Archive, ArchivedFile, Held

MEMORY_BYTES = 32 << 20
"""The largest Data Set that is sent from memory; a longer one is read twice."""

_AHEAD = 2  # how many of a retrieve are in memory: while one is sent the next is read
_MOST_AHEAD = 8  # of all retrieves together; what comes on top reads each Data Set twice, in little memory
_PART_BYTES = 1 << 20

_MOST_IDLE = 2  # rooms that wait for the next retrieve: a system takes as long to give new memory as to hash it

_permits = threading.BoundedSemaphore(_MOST_AHEAD)
_idle: deque[_Room] = deque(maxlen=_MOST_IDLE)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A stored instance that is ready to be sent, or why it is not.

    Attributes
    ----------
    began_at
        When its reading began.
    """

    held: Held
    began_at: datetime
    file: ArchivedFile | None
    error: Exception | None = None

    def required(self) -> ArchivedFile:
        """Give the file, or raise what kept it from being ready."""
        if self.file is None:
            raise self.error or RuntimeError
        return self.file


class Outgoing(AbstractContextManager["Outgoing"]):
    """Reads instances in order, each a little before it is asked for; leave the ``with`` block to stop early.

    Parameters
    ----------
    archive
        Where they are.
    held
        Which, as far as is known; the first ones are read from now on.
    """

    def __init__(self, archive: Archive, held: Sequence[Held]) -> None:
        self._archive = archive
        self._held = held
        self._readers: list[_Reader] = []

    def __enter__(self) -> Self:
        wanted = min(len(self._held), _AHEAD)
        while len(self._readers) < wanted and _permits.acquire(blocking=False):
            try:
                self._readers.append(_Reader(self._archive, self._held[len(self._readers)]))
            except RuntimeError:  # the system has no thread for it
                _permits.release()
                break
        return self

    def __exit__(self, *exc: object) -> None:
        for reader in self._readers:
            reader.stop()
        self._readers = []

    def in_order(self, held: Sequence[Held]) -> Iterator[Loaded]:
        """Give these; what is in memory of one is void when the next is asked for."""
        if list(held[:_AHEAD]) != list(self._held[:_AHEAD]):
            self.__exit__()
            self._held = held
            self.__enter__()
        count = len(self._readers)
        for number, one in enumerate(held):
            if not count:
                yield _loaded(self._archive, one, _Room(0))
                continue
            reader = self._readers[number % count]
            yield reader.take()
            if number + count < len(held):
                reader.ask(held[number + count])


class _Reader:
    """A thread with room for one instance."""

    def __init__(self, archive: Archive, first: Held) -> None:
        self.ready: SimpleQueue[Loaded] = SimpleQueue()
        self._asked: SimpleQueue[Held | None] = SimpleQueue()
        self._archive = archive
        self._is_over = False
        self.ask(first)
        self._thread = threading.Thread(target=self._run, name="outgoing", daemon=True)
        self._thread.start()

    def ask(self, held: Held) -> None:
        """Let it read this one; what it has read before is void."""
        self._is_busy = True
        self._asked.put(held)

    def take(self) -> Loaded:
        """Wait for what was asked for."""
        loaded = self.ready.get()
        self._is_busy = False
        return loaded

    def stop(self) -> None:
        """Let the thread end; where it still reads what nobody wants any more, nobody waits for it either."""
        self._is_over = True
        self._asked.put(None)
        if not self._is_busy:
            self._thread.join()  # so that its memory is there for the next retrieve

    def _run(self) -> None:
        try:
            room = _idle.pop()
        except IndexError:
            room = _Room(MEMORY_BYTES)
        try:
            while (held := self._asked.get()) is not None and not self._is_over:
                self.ready.put(_loaded(self._archive, held, room))
        finally:
            _idle.append(room)
            _permits.release()


class _Room:
    """Memory for one Data Set after the other."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._memory = memoryview(b"")

    def __call__(self, size_bytes: int) -> memoryview | None:
        """Give so much, None when it is too much; what was given before is void."""
        if size_bytes > self._limit_bytes:
            return None
        if size_bytes > len(self._memory):
            try:
                self._memory = memoryview(mmap.mmap(-1, -(-size_bytes // _PART_BYTES) * _PART_BYTES))
            except OSError:
                return None
        return self._memory[:size_bytes]


def _loaded(archive: Archive, held: Held, room: _Room) -> Loaded:
    began_at = datetime.now(UTC)
    try:
        return Loaded(held, began_at, archive.load(held.location, held.sha256, room))
    except Exception as error:  # noqa: BLE001 - it is raised again where somebody waits for the instance
        return Loaded(held, began_at, None, error)


def parts(file: ArchivedFile) -> Iterator[bytes | memoryview]:
    """Give the Data Set: the memory in which it was compared, or read it again and compare it once more.

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
    """See that what was read of a file since it was compared is what was compared, where that is not in memory.

    Raises
    ------
    DigestMismatch
    """
    if file.content is None:
        for _ in parts(file):
            pass
