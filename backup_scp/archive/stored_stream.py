"""Read stored files, and translate the system's errors at every read, not only at the first."""

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
        Context manager that translates the system's errors into ours.
    """

    def __init__(self, path: str, explained: Explained) -> None:
        self._explained = explained
        with explained():
            super().__init__(path, "rb")

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        with self._explained():
            return super().readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        with self._explained():  # a network file system asks the server for the file's size
            return super().seek(offset, whence)

    def readall(self) -> bytes:
        with self._explained():
            return super().readall() or b""


def open_stored(path: str, explained: Explained) -> BinaryIO:
    """Open a stored file at its first byte.

    Raises
    ------
    FileMissing, DigestMismatch, ArchiveUnavailable
        Raised here, or by a later read.
    """
    return io.BufferedReader(StoredStream(path, explained))
