"""The least that is asked of streams of bytes."""

from __future__ import annotations

from typing import Protocol


class Readable(Protocol):
    """A stream to read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes; nothing at the end."""


class Writable(Protocol):
    """A stream to write to."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Write some of the bytes; return how many."""

    def flush(self) -> object:
        """Pass on what is buffered."""
