"""A file that a command writes at its end, and checks at its begin.  It replaces no other file."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from backup_scp.errors import DestinationUnavailable
from backup_scp.machine.folders import fsync, fsync_folder, try_to_write


class NewDocument:
    """A file for our user alone.

    Parameters
    ----------
    path
        Its name.
    what
        It is, for messages.

    Raises
    ------
    DestinationUnavailable
        Its folder cannot be written.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path = path.absolute()
        self._what = what
        try:
            try_to_write(self._path.parent)
        except OSError as error:
            raise self._unavailable(error) from error

    def write(self, fill: Callable[[BinaryIO], None]) -> Path:
        """Write it durably, and return its name: a number follows the name of one that exists already.

        Raises
        ------
        DestinationUnavailable
            It cannot be written; nothing is left of it.
        """
        try:
            path, descriptor = self._new_file()
        except OSError as error:
            raise self._unavailable(error) from error
        try:
            with os.fdopen(descriptor, "wb") as stream:
                fill(stream)
                stream.flush()
                fsync(stream.fileno())
            fsync_folder(path.parent)
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, Exception):  # also from a library, which need not end a command with a traceback
                raise self._unavailable(error) from error
            raise
        return path

    def _new_file(self) -> tuple[Path, int]:
        for number in itertools.count(1):
            path = self._path if number == 1 else self._path.with_stem(f"{self._path.stem}-{number}")
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
                return path, os.open(path, flags, 0o600)
            except FileExistsError:
                continue
        raise AssertionError  # there is always a further number

    def _unavailable(self, error: Exception) -> DestinationUnavailable:
        reason = getattr(error, "strerror", "") or type(error).__name__
        return DestinationUnavailable(f"The {self._what} {self._path} cannot be written ({reason}): name another file")
