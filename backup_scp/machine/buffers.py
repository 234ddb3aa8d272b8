"""Limit the memory of all threads together, and use it again: new memory costs a page fault for each 4 KiB."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Buffers:
    """Lends long buffers while there are some, and short ones beside them; threads share it.

    Parameters
    ----------
    long_bytes
        Length of a long one.
    most
        How many of them there are.
    short_bytes
        Length of the others.
    """

    def __init__(self, long_bytes: int, most: int, short_bytes: int) -> None:
        self._long_bytes = long_bytes
        self._short_bytes = short_bytes
        self._left = most
        self._free: list[memoryview] = []
        self._lock = threading.Lock()

    @contextmanager
    def lent(self, wanted: int) -> Iterator[memoryview]:
        """Lend a buffer; the next borrower of a long one finds its bytes in it.

        Parameters
        ----------
        wanted
            How many bytes are of use; a short one is not longer, and who needs no more gets a short one.
        """
        buffer = self._long() if wanted > self._short_bytes else None
        if buffer is None:
            yield memoryview(bytearray(min(wanted, self._short_bytes)))
            return
        try:
            yield buffer
        finally:
            with self._lock:
                self._free.append(buffer)

    def _long(self) -> memoryview | None:
        with self._lock:
            if self._free:
                return self._free.pop()
            if not self._left:
                return None
            self._left -= 1
        return memoryview(bytearray(self._long_bytes))


class Memory:
    """Gives new memory, up to a limit; threads share it.

    Parameters
    ----------
    limit
        Of all that is given at a time, in bytes.
    most
        Of one piece.
    """

    def __init__(self, limit: int, most: int) -> None:
        self._left = limit
        self._most = most
        self._lock = threading.Lock()

    def take(self, size: int) -> Room:
        """Return room for so many bytes; without content when there is none left, or they are too many."""
        with self._lock:
            if size > min(self._left, self._most):
                return Room(self, None)
            self._left -= size
        return Room(self, bytearray(size))

    def give_back(self, size: int) -> None:
        """Let others have so many bytes."""
        with self._lock:
            self._left += size


class Room:
    """A piece of memory, if any.

    Attributes
    ----------
    content
        The memory; None when there is none.
    """

    def __init__(self, memory: Memory, content: bytearray | None) -> None:
        self._memory = memory
        self.content = content

    def give_back(self) -> None:
        """Give it back; harmless when called twice."""
        content, self.content = self.content, None
        if content is not None:
            self._memory.give_back(len(content))
