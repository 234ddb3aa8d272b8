"""Buffer the rows of a long answer, so that a slow reader does not keep a read transaction open for hours.

During a read transaction, SQLite cannot shorten its write-ahead log and PostgreSQL cannot remove old rows.  So rows
that a slow reader has not taken after some seconds are read to the end and buffered in a file without a name.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Self

import msgspec

from backup_scp.errors import IndexUnavailable
from backup_scp.index.connection.database import ROWS_AT_ONCE, Database
from backup_scp.index.connection.sqlite_engine import sqlite_path
from backup_scp.index.reading.select import Search

_PATIENCE_S = 5.0
"""Total time that a reader may take for its rows before the rest is buffered, in seconds."""

_READ_AHEAD_S = 0.5  # at once: the reader waits meanwhile
_IN_MEMORY_BYTES = 1 << 20
_MOST_BYTES = 1 << 30
"""Limit of buffered bytes, for all readers of this process together."""

Values = Sequence[Any]


def rows(database: Database, prepare: Callable[[], Search]) -> Generator[Values, None, None]:
    """Yield the rows of a search, in one transaction that does not wait for a slow caller.

    Parameters
    ----------
    prepare
        Returns the statement; called with an open connection, because the dialect then knows its database.

    Raises
    ------
    IndexUnavailable
    """
    with contextlib.ExitStack() as transaction:
        batches = transaction.enter_context(_batches(database, prepare))
        taken_s = 0.0
        for batch in batches:
            given_at = time.monotonic()
            yield from batch
            taken_s += time.monotonic() - given_at
            if taken_s > _PATIENCE_S:
                break
        else:
            return
        with _Waiting(database) as waiting:
            while _read_ahead(batches, waiting):
                yield from waiting.take()
            transaction.close()
            while left := waiting.take():
                yield from left


@contextlib.contextmanager
def _batches(database: Database, prepare: Callable[[], Search]) -> Iterator[Iterator[Sequence[Values]]]:
    """Begin to read: SQLite through the driver's cursor; a SELECT that is alone sees one state without a BEGIN."""
    if database.is_sqlite:
        with database.autocommit() as cursor:
            statement, values = prepare()
            if values is not None:
                with contextlib.closing(cursor.batches(statement, values, ROWS_AT_ONCE)) as batches:
                    yield batches
                return
    with database.reading(stream=True) as connection:
        statement, values = prepare()
        with connection.execute(statement, values) as result:
            yield iter(result.partitions())


def _read_ahead(batches: Iterator[Sequence[Values]], waiting: _Waiting) -> bool:
    """Buffer rows for some time; False at the end of the answer."""
    until = time.monotonic() + _READ_AHEAD_S
    for batch in batches:
        waiting.add([tuple(row) for row in batch])
        if time.monotonic() > until:
            return True
    return False


class _Room:
    """Counts the buffered bytes of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.taken_bytes = 0

    def take(self, size_bytes: int) -> None:
        with self._lock:
            if self.taken_bytes + size_bytes > _MOST_BYTES:
                raise IndexUnavailable("Too many answers are buffered for slow readers; ask for fewer")
            self.taken_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        with self._lock:
            self.taken_bytes -= size_bytes


_room = _Room()


class _Waiting:
    """Buffered rows, first in, first out; the file disappears with the process, even after a crash."""

    def __init__(self, database: Database) -> None:
        folder = str(sqlite_path(database.url).parent) if database.is_sqlite else None
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=folder)  # noqa: SIM115 - see __exit__
        self._sizes: deque[int] = deque()
        self._read_to = self._written_to = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        _room.give_back(self._written_to)

    def add(self, batch: Sequence[Values]) -> None:
        encoded = msgspec.msgpack.encode(batch)
        _room.take(len(encoded))
        self._written_to += len(encoded)
        try:
            self._file.seek(self._written_to - len(encoded))
            self._file.write(encoded)
        except OSError as error:
            raise IndexUnavailable(f"There is no room to buffer answers for a slow reader ({error.strerror})") from None
        self._sizes.append(len(encoded))

    def take(self) -> list[Values]:
        """Return the next buffered rows; an empty list when there are none."""
        if not self._sizes:
            return []
        size = self._sizes.popleft()
        self._file.seek(self._read_to)
        self._read_to += size
        batch: list[Values] = msgspec.msgpack.decode(self._file.read(size))
        return batch
