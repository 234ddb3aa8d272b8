"""A stored file, read: what the system refuses in the middle of it is an error of ours, as it is at its beginning."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Explained = Callable[[], AbstractContextManager[None]]


class StoredStream(io.FileIO):
    """The bytes of one stored file.

    Parameters
    ----------
    path
        The file.
    explained
        Raises errors of ours for what the system refuses in its block.
    """

    def __init__(self, path: str, explained: Explained) -> None:
        self._explained = explained
        with explained():
            super().__init__(path, "rb")

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        with self._explained():
            return super().readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        with self._explained():  # a network file system looks at the file for its end
            return super().seek(offset, whence)

    def readall(self) -> bytes:
        with self._explained():
            return super().readall() or b""


def open_stored(path: str, explained: Explained) -> BinaryIO:
    """Open a stored file at its first byte.

    Raises
    ------
    FileMissing, DigestMismatch, ArchiveUnavailable
        Now, or whenever it is read.
    """
    return io.BufferedReader(StoredStream(path, explained))
