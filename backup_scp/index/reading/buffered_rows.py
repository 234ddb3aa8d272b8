"""The rows of a long answer, for whoever takes them: one who is slow does not keep a read transaction open for hours.

SQLite cannot shorten its write-ahead log while a reader needs what is in it, and PostgreSQL cannot clean up.  So what a
slow reader has not taken after some seconds is read to the end and waits in a file without a name.
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
import sqlalchemy as sa

from backup_scp.errors import IndexUnavailable
from backup_scp.index.connection.database import Database
from backup_scp.index.connection.sqlite_engine import sqlite_path

_PATIENCE_S = 5.0
"""How long a reader may take for its rows, all in all, before they are read ahead of it."""

_READ_AHEAD_S = 0.5  # at a time: meanwhile the reader gets nothing
_IN_MEMORY_BYTES = 1 << 20
_MOST_BYTES = 1 << 30
"""What may wait at one moment, for all readers of this process."""

Values = Sequence[Any]


def rows(database: Database, statement: Callable[[], sa.Select[Any]]) -> Generator[Values, None, None]:
    """Yield the rows of a statement, in one transaction that is not longer than reading them takes.

    Parameters
    ----------
    statement
        Makes it; called when there is a connection, for a dialect knows its database then.

    Raises
    ------
    IndexUnavailable
    """
    with contextlib.ExitStack() as transaction:
        connection = transaction.enter_context(database.reading(stream=True))
        batches = iter(transaction.enter_context(connection.execute(statement())).partitions())
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


def _read_ahead(batches: Iterator[Sequence[sa.Row[Any]]], waiting: _Waiting) -> bool:
    """Read on for some time; False at the end."""
    until = time.monotonic() + _READ_AHEAD_S
    for batch in batches:
        waiting.add([tuple(row) for row in batch])
        if time.monotonic() > until:
            return True
    return False


class _Room:
    """How much may wait yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.taken_bytes = 0

    def take(self, size_bytes: int) -> None:
        with self._lock:
            if self.taken_bytes + size_bytes > _MOST_BYTES:
                raise IndexUnavailable("Too many answers wait for those who take them slowly; ask for fewer")
            self.taken_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        with self._lock:
            self.taken_bytes -= size_bytes


_room = _Room()


class _Waiting:
    """Rows that wait, first in, first out; the file is gone with the process, however that ends."""

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
            raise IndexUnavailable(f"There is no room for answers that are taken slowly ({error.strerror})") from None
        self._sizes.append(len(encoded))

    def take(self) -> list[Values]:
        """Give the next rows; none when none wait."""
        if not self._sizes:
            return []
        size = self._sizes.popleft()
        self._file.seek(self._read_to)
        self._read_to += size
        batch: list[Values] = msgspec.msgpack.decode(self._file.read(size))
        return batch
