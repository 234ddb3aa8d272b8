"""Read a staged Data Set for parsing: its beginning from memory, the rest from the file, opened when needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO, Self

from backup_scp.archive.os_errors import translated


class StagedReader:
    """A stream of the bytes of a staged Data Set, for the parser.

    Parameters
    ----------
    beginning
        The first bytes of the Data Set.
    size
        The length of the Data Set, in bytes.
    reopen
        Opens the file at the Data Set's first byte.
    """

    def __init__(self, beginning: bytearray, size: int, reopen: Callable[[], BinaryIO]) -> None:
        self._beginning = beginning
        self._size = size
        self._reopen = reopen
        self._position = 0
        self._rest: tuple[BinaryIO, int] | None = None  # and the position of the Data Set in the file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._rest is not None:
            self._rest[0].close()

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._position + size, self._size)
        if end <= len(self._beginning):
            data = bytes(self._beginning[self._position : end])
        else:
            data = self._read_file(end - self._position)
        self._position += len(data)
        return data

    def _read_file(self, length: int) -> bytes:
        if self._rest is None:
            stream = self._reopen()
            self._rest = stream, stream.tell()
        stream, start = self._rest
        with translated("read"):
            stream.seek(start + self._position)
            return stream.read(max(length, 0))
